"""What a killed apply left on this machine: Ansible's workers, whose results nobody reads any more."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
PARENT, USER_TICKS, SYSTEM_TICKS = 1, 11, 12  # of /proc/PID/stat after the command's name, proc(5)


class Leftovers:
    """The processes that still hold a lock open. Those that have come to rest are ended.

    A worker whose Ansible was killed blocks for ever once the pipe for its results is full. One that works on a node
    has a child, `ssh`; one that still has its Ansible may be between two tasks. Neither is at rest.
    """

    def __init__(self, lock: Path, *, rest_s: float) -> None:
        self._lock = lock
        self._rest_s = rest_s
        self._seen: dict[int, tuple[int, float]] = {}

    def holders(self) -> list[int]:
        """Return the processes that have the lock open, as far as this user may see."""
        return sorted({int(fd.parts[2]) for fd in PROC.glob("[0-9]*/fd/*") if _points_to(fd, self._lock)})

    def end_idle(self) -> None:
        """Kill who has had no child and no processor time for `rest_s` seconds, and whose parent is no holder."""
        holders = self.holders()
        for pid in holders:
            with suppress(OSError):  # it ended by itself
                if self._is_at_rest(pid, holders):
                    os.kill(pid, signal.SIGKILL)

    def _is_at_rest(self, pid: int, holders: list[int]) -> bool:
        stat = _stat(pid)
        ticks = int(stat[USER_TICKS]) + int(stat[SYSTEM_TICKS])
        before, since = self._seen.get(pid, (-1, 0.0))
        if ticks != before or _living_children(pid) or int(stat[PARENT]) in holders:
            self._seen[pid] = (ticks, time.monotonic())
            return False
        return time.monotonic() - since >= self._rest_s


def _points_to(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.parts[2] != str(os.getpid()) and descriptor.readlink() == file
    except OSError:
        return False


def _living_children(pid: int) -> list[int]:
    children = [int(child) for task in (PROC / f"{pid}/task").iterdir() for child in _read_children(task)]
    return [child for child in children if _is_living(child)]


def _read_children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def _is_living(pid: int) -> bool:
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
