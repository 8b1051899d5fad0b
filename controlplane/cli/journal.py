"""What is kept beside a rendered inventory: plans, a record of every run, and the lock that keeps two apart."""

import fcntl
import getpass
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from socket import gethostname
from typing import IO

from pydantic import BaseModel, ValidationError

from controlplane.cli.leftovers import Leftovers
from controlplane.cli.run_record import Failure, RunRecord, StageTime
from controlplane.kit.errors import Refused

KEPT_RUNS = 200
LEFTOVER_S = 180.0  # the boundary's own confirmation is the longest single task, a minute on a slow node
REST_S = 10.0
LOOK_S = 0.2


class Run(BaseModel):
    """One apply: who, when, by which plan, and what came of it. Without an end it was killed."""

    id: str
    site: str
    by: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: str = "unfinished"
    plan: str = ""
    bundle: str = ""
    changed: int = 0
    tasks: int = 0
    seconds: float = 0.0
    stages: list[StageTime] = []
    failures: list[Failure] = []
    skipped_checks: dict[str, str] = {}


class Journal:
    """The folder `.runs` beside a rendered inventory; not in it, for that is compared with the spec."""

    def __init__(self, rendered: Path, *, leftover_s: float = LEFTOVER_S, rest_s: float = REST_S) -> None:
        self.leftover_s, self.rest_s = leftover_s, rest_s
        self.folder = rendered.resolve().parent / ".runs"
        self.plans = self.folder / "plans"

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Keep a second apply away; yields the descriptor, which Ansible inherits: it may outlive a killed command."""
        self.plans.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as file:
            self._take(file)
            file.truncate(0)
            file.write(f"{whose()}, process {os.getpid()}\n")
            file.flush()
            yield file.fileno()

    def _take(self, file: IO[str]) -> None:
        """Lock, or raise Refused. What a killed command left behind is waited for: its last tasks on nodes end soon."""
        if _is_locked_now(file):
            return
        file.seek(0)
        holder = file.read().strip()
        if not _has_ended(holder):
            raise Refused(
                f"another apply of this site is running: {holder or 'it does not say whose'}",
                remedy="wait for it to end, or stop it there",
                code="apply_running",
            )
        sys.stderr.write(f"redoubt: {holder} was killed; waiting for its last tasks on the nodes\n")
        leftovers = Leftovers(self.folder / "lock", rest_s=self.rest_s)
        ends_at = time.monotonic() + self.leftover_s
        while time.monotonic() < ends_at:
            if _is_locked_now(file):
                return
            leftovers.end_idle()
            time.sleep(LOOK_S)
        raise Refused(
            f"an apply that was killed still works on the nodes: {holder}",
            remedy=f"wait, or end what it left: kill {' '.join(map(str, leftovers.holders()))}",
            code="apply_running",
        )

    def keep(self, run: Run) -> None:
        """Write a run's record; the oldest go when there are many."""
        self._write(self.folder / f"{run.id}.json", run.model_dump_json(indent=1))
        for old in self._files()[:-KEPT_RUNS]:
            old.unlink()

    def runs(self) -> list[Run]:
        """Return the runs, oldest first; a record that cannot be read is left out."""
        return [run for path in self._files() if (run := _read(path))]

    def stage_seconds(self, *, changing: bool) -> dict[str, float]:
        """Return the seconds of each stage when it last ran, or last changed something."""
        every = (stage for run in self.runs() for stage in run.stages if stage.ran)
        return {stage.name: stage.seconds for stage in every if stage.changed or not changing}

    def keep_plan(self, digest: str, text: str) -> Path:
        """Keep a plan under its digest."""
        path = self.plans / f"{digest}.json"
        self._write(path, text)
        return path

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(path)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("run-*.json"))


def finished(run: Run, record: RunRecord, *, at: datetime) -> Run:
    """Return a run with what came of it."""
    return run.model_copy(
        update={
            "ended_at": at,
            "outcome": "failed" if record.failures else "done",
            "changed": record.changed or len(record.changes),
            "tasks": record.tasks,
            "seconds": record.seconds,
            "stages": record.stages,
            "failures": record.failures,
        }
    )


def whose() -> str:
    """Return who does this, and where."""
    return f"{getpass.getuser()}@{gethostname()}"


def _is_locked_now(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _has_ended(holder: str) -> bool:
    """Say whether the command that took the lock is gone; of another machine's nobody here can tell."""
    found = re.fullmatch(r".+@(?P<host>[^@]+), process (?P<pid>\d+)", holder)
    return found is not None and found["host"] == gethostname() and not Path(f"/proc/{found['pid']}").exists()


def _read(path: Path) -> Run | None:
    try:
        return Run.model_validate_json(path.read_bytes())
    except (ValidationError, json.JSONDecodeError):
        return None
