"""A job's supervisor as a process: what it does to its command, and what it does when nobody answers."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controlplane.contracts.jobs import JobSpec
from tests.runner.stand_in_jobs import StandInJobs, stand_in_jobs

SPEC = "REDOUBT_JOB_SPEC"
PATIENCE_S = 30.0


@pytest.fixture
def api() -> Iterator[StandInJobs]:
    with stand_in_jobs(StandInJobs()) as api:
        yield api


class Job:
    def __init__(self, process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
        self.process = process
        self.home = home
        self._log = log

    def ends(self) -> int:
        return self.process.wait(PATIENCE_S)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def running(
    api: StandInJobs, home: Path, script: str, *, around: dict[str, str] | None = None, **changes
) -> Iterator[Job]:
    """Start a supervisor whose command is this Python script; kill it when the block ends."""
    spec = JobSpec(
        job_id="job_1", nonce="n" * 32, api_url=api.url, site_ca_pem="", is_array=False,
        command=(sys.executable, "-u", "-c", script), environment={"GREETING": "hello"}, gpus=0, home=str(home),
        renew_s=0.2,
    ).model_copy(update=changes)  # fmt: skip
    environment = {**os.environ, SPEC: spec.model_dump_json(), "SLURMD_NODENAME": "gpu1", **(around or {})}
    log = home / f"supervisor-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "controlplane.main.job", "--spec-env", SPEC]
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stderr=output) as process:
        try:
            yield Job(process, home, log)
        finally:
            process.kill()


def until(condition: Callable[[], object]) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0.02)


def test_a_command_runs_with_its_surroundings_and_its_status_is_the_jobs(api: StandInJobs, tmp_path: Path):
    script = (
        "import os, sys; e = os.environ; "
        "print(e['GREETING'], e['REDOUBT_PORT_FIRST'], e['REDOUBT_PORT_LAST']);"
        "print(e['REDOUBT_CHECKPOINT_DIR'], os.getcwd());"
        "print('oops', file=sys.stderr); print('REDOUBT_JOB_SPEC' in e); sys.exit(7)"
    )
    with running(api, tmp_path, script, first_port=24000, last_port=24099) as job:
        assert job.ends() == 7
    folders = f"{tmp_path}/checkpoints/job_1 {tmp_path}"
    assert api.text().splitlines() == ["hello 24000 24099", folders, "False"]
    assert api.text(stream="err") == "oops\n"
    assert "ended with status 7" in api.text(stream="redoubt")
    assert (api.said[-1]["phase"], api.said[-1]["status"]) == ("ended", 7)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_command_cannot_make_its_start_queue_again(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, "raise SystemExit(79)") as job:
        assert job.ends() == 1
    assert api.said[-1]["status"] == 79


def test_a_command_that_is_not_there_says_so(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, "", command=("no-such-program",)) as job:
        assert job.ends() == 127
    assert "no-such-program: No such file" in api.text(stream="err")


def test_a_start_that_the_scheduler_told_nothing_of_yet_waits_until_it_has(api: StandInJobs, tmp_path: Path):
    api.not_seen = 3
    with running(api, tmp_path, "print(1)", around={"SLURM_RESTART_COUNT": "2"}) as job:
        assert job.ends() == 0
    assert [(one["restarts"], one["node"]) for one in api.registered] == [(2, "gpu1")]
    assert api.text(restarts=2) == "1\n"


def test_an_element_of_an_array_is_a_run_of_its_own(api: StandInJobs, tmp_path: Path):
    script = "import os; print(os.environ['REDOUBT_ARRAY_INDEX'])"
    with running(api, tmp_path, script, is_array=True, around={"SLURM_ARRAY_TASK_ID": "4"}) as job:
        assert job.ends() == 0
    assert api.text("job_1.4") == "4\n"


def test_a_refused_start_runs_nothing_and_may_queue_again(api: StandInJobs, tmp_path: Path):
    api.refusal = "GPU x is cordoned: ECC"
    with running(api, tmp_path, "open('ran', 'w')") as job:
        assert job.ends() == 79
        assert "cordoned" in job.log()
    assert not (tmp_path / "ran").exists()


def test_without_the_gpus_that_were_asked_for_nothing_runs(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, "open('ran', 'w')", gpus=2) as job:
        assert job.ends() == 79
    assert api.said[-1]["phase"] == "refused"
    assert not (tmp_path / "ran").exists()


CHECKPOINTER = """
import os, signal, time
def save(*_):
    open(os.environ['REDOUBT_CHECKPOINT_DIR'] + '/saved', 'w').close()
    print('saved')
signal.signal(signal.SIGUSR1, save)
print('up')
while True: time.sleep(0.1)
"""


def test_the_checkpoint_signal_reaches_the_command_which_goes_on(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, CHECKPOINTER, signal="USR1", signal_before_s=60) as job:
        until(lambda: "up" in api.text())
        job.process.send_signal(signal.SIGUSR1)
        until((tmp_path / "checkpoints/job_1/saved").exists)
        until(lambda: "checkpointing" in api.phases())
        assert job.process.poll() is None


def test_a_stop_warns_first_and_then_ends(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, CHECKPOINTER, signal="USR1", signal_before_s=60, stop_grace_s=17) as job:
        until(lambda: "up" in api.text())
        job.process.send_signal(signal.SIGTERM)
        assert job.ends() == 128 + signal.SIGTERM
    assert (tmp_path / "checkpoints/job_1/saved").exists()
    assert "saved" in api.text()


def test_a_stop_of_the_control_plane_ends_the_command_too(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, "import time; print('up'); time.sleep(600)") as job:
        until(lambda: "up" in api.text())
        api.stop = True
        assert job.ends() == 128 + signal.SIGTERM


def test_a_start_that_another_has_taken_over_from_dies_at_once(api: StandInJobs, tmp_path: Path):
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(600)"
    with running(api, tmp_path, script) as job:
        until(lambda: "up" in api.text())
        api.keep = False
        assert job.ends() == 128 + signal.SIGKILL


@pytest.mark.parametrize("status", [0, 500, 401])
def test_a_command_does_not_notice_that_the_control_plane_is_away(api: StandInJobs, tmp_path: Path, status: int):
    script = "import time; print('up'); time.sleep(2); print('x' * 300_000); open('end', 'w')"
    with running(api, tmp_path, script) as job:
        until(lambda: "up" in api.text())
        api.status = status
        until((tmp_path / "end").exists)
        api.status = 200
        assert job.ends() == 0
    if status != 401:
        assert api.text() == "up\n" + "x" * 300_000 + "\n"


def test_what_one_supervisor_could_not_ship_the_next_one_ships(api: StandInJobs, tmp_path: Path):
    with running(api, tmp_path, "print('mine'); import time; time.sleep(600)") as job:
        until(api.phases)
        api.status = 0
        until(lambda: any(p.name.startswith("0") for p in (tmp_path / "jobs/job_1.0").iterdir()))
        job.process.kill()
        job.process.wait()
    api.status = 200
    with running(api, tmp_path, "import time; time.sleep(1.5)", job_id="job_2") as job:
        assert job.ends() == 0
    assert api.text("job_1") == "mine\n"
    assert list((tmp_path / "jobs").iterdir()) == []


def test_more_output_than_is_kept_is_cut_with_a_word_about_it_and_the_end_is_kept(api: StandInJobs, tmp_path: Path):
    script = "import sys\nfor i in range(100_000): print(f'{i:09d}')\nprint('the end')"
    with running(api, tmp_path, script, log_bytes=200_000) as job:
        assert job.ends() == 0
    kept, said = api.text(), api.text(stream="redoubt")
    assert "bytes of output were cut" in said
    assert kept.startswith("000000000\n000000001\n")
    assert kept.endswith("000099999\nthe end\n")
    assert len(kept) < 210_000


def test_a_command_that_writes_more_than_anybody_takes_is_not_held_up(api: StandInJobs, tmp_path: Path):
    script = "import sys\nfor _ in range(400): sys.stdout.write('y' * 100_000)\nopen('end', 'w')"
    with running(api, tmp_path, "import time; time.sleep(0.5)\n" + script, spool_bytes=1_000_000) as job:
        until(api.phases)
        api.status = 0
        until((tmp_path / "end").exists)
        spooled = sum(p.stat().st_size for p in (tmp_path / "jobs/job_1.0").iterdir())
        job.process.kill()
    assert spooled < 1_000_000 + 5 * 1024**2


def test_a_killed_supervisor_takes_its_command_with_it(api: StandInJobs, tmp_path: Path):
    script = "import os, time; print(os.getpid()); time.sleep(600)"
    with running(api, tmp_path, script) as job:
        until(lambda: api.text().endswith("\n"))
        child = int(api.text())
        job.process.kill()
        job.process.wait()
        until(lambda: not _lives(child))


def test_what_a_command_leaves_behind_ends_with_it(api: StandInJobs, tmp_path: Path):
    script = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    with running(api, tmp_path, script) as job:
        assert job.ends() == 0
    until(lambda: not _lives(int(api.text())))


def test_words_that_are_no_job_are_a_usage_error(tmp_path: Path):
    command = [sys.executable, "-m", "controlplane.main.job", "--spec-env", SPEC]
    done = subprocess.run(
        command, env={**os.environ, SPEC: json.dumps({"job_id": 1})}, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"holds no job" in done.stderr


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
