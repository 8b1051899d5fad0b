"""Runs are recorded from before the first task, and two applies of one site keep apart."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controlplane.cli.journal import KEPT_RUNS, Journal, Run, finished
from controlplane.cli.leftovers import SILENT
from controlplane.cli.run_record import RunRecord, StageTime
from controlplane.kit.errors import Refused

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "rendered")


def run(number: int = 0, **more) -> Run:
    return Run(id=f"run-{number:04}", site="s", by="anna@desk", started_at=AT, **more)


def test_a_second_apply_is_refused_and_told_whose_the_first_is(journal):
    with journal.lock(), pytest.raises(Refused) as refusal, Journal(journal.folder.parent / "rendered").lock():
        pass

    assert "another apply of this site is running: " in refusal.value.detail
    assert "process" in refusal.value.detail
    with journal.lock():
        pass


BUSY = "while True: pass"
AT_WORK = "import subprocess; subprocess.run(['sleep', '60'])"


def killed_with_a_task_left(journal: Journal, task: str = "input()") -> "subprocess.Popen[bytes]":
    """Take the lock in a command that is gone when this returns; the task that it started has the lock still."""
    command = f"""
import subprocess, sys
from pathlib import Path
from controlplane.cli.leftovers import SILENT
from controlplane.cli.journal import Journal
with Journal(Path({str(journal.folder.parent / "rendered")!r})).lock() as held:
    subprocess.Popen([sys.executable, "-c", {task!r}], pass_fds=(held,))
"""
    left = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE)
    left.wait()
    return left


def test_what_a_killed_apply_left_is_waited_for(journal, capfd):
    task = killed_with_a_task_left(journal)
    threading.Timer(0.5, task.communicate).start()

    with journal.lock():
        pass
    assert "was killed; waiting for its last tasks on the nodes" in capfd.readouterr().err


def test_what_a_killed_apply_left_for_good_is_named(tmp_path):
    journal = Journal(tmp_path / "rendered", leftover_s=0.3)
    task = killed_with_a_task_left(journal)

    with pytest.raises(Refused, match="an apply that was killed still works on the nodes") as refusal, journal.lock():
        pass
    assert re.fullmatch(r"wait, or end what it left: kill \d+", refusal.value.remedy)
    task.communicate()


def test_a_worker_whose_ansible_was_killed_and_that_waits_for_ever_is_ended(tmp_path):
    journal = Journal(tmp_path / "rendered", rest_s=0.5)
    task = killed_with_a_task_left(journal)

    with journal.lock():
        pass
    task.communicate()


@pytest.mark.parametrize("work", [BUSY, AT_WORK])
def test_a_worker_that_still_works_is_not_ended(tmp_path, work):
    journal = Journal(tmp_path / "rendered", leftover_s=2, rest_s=0.5)
    killed_with_a_task_left(journal, work).communicate()

    with pytest.raises(Refused, match="still works on the nodes") as refusal, journal.lock():
        pass
    for pid in map(int, re.findall(r"\d+", refusal.value.remedy)):
        _end_with_children(pid)


def test_a_worker_that_hangs_with_its_child_is_ended_later_than_one_alone(tmp_path):
    journal = Journal(tmp_path / "rendered", rest_s=0.2)
    killed_with_a_task_left(journal, AT_WORK).communicate()

    started = time.monotonic()
    with journal.lock():
        pass
    assert time.monotonic() - started >= 0.2 * SILENT


def _end_with_children(pid: int) -> None:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def test_a_run_that_was_killed_stays_on_record_as_unfinished(journal):
    journal.keep(run())

    assert journal.runs()[0].outcome == "unfinished"


def test_a_finished_run_keeps_what_each_stage_took(journal):
    record = RunRecord(
        hosts={}, stages=[StageTime(name="Time", seconds=3, changed=1), StageTime(name="Base", seconds=9, changed=0)],
        changes=[], failures=[], seconds=12,
    )  # fmt: skip
    journal.keep(finished(run(), record, at=AT))

    assert journal.runs()[0].outcome == "done"
    assert journal.stage_seconds(changing=False) == {"Time": 3, "Base": 9}
    assert journal.stage_seconds(changing=True) == {"Time": 3}


def test_old_records_go_and_damaged_ones_are_left_out(journal):
    for number in range(KEPT_RUNS + 3):
        journal.keep(run(number))
    (journal.folder / "run-0100.json").write_text("{")

    found = journal.runs()
    assert len(found) == KEPT_RUNS - 1
    assert found[0].id == "run-0003"
