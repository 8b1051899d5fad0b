"""What a killed apply left on this machine: Ansible's workers, whose results nobody reads any more."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
SILENT = 12  # two minutes: the longest that a task on a node says nothing, the boundary's own confirmation, is one
PARENT, USER_TICKS, SYSTEM_TICKS = 1, 11, 12  # of /proc/PID/stat after the command's name, proc(5)

Activity = tuple[int, tuple[int, ...]]  # processor time in ticks, and the children


class Leftovers:
    """The processes that still hold a lock open. Those that have come to rest are ended.

    A worker whose Ansible was killed blocks for ever once the pipe for its results is full. One that works on a node
    has a child, `ssh`, that may hang as long as the node is silent; one that still has its Ansible may be between two
    tasks.
    """

    def __init__(self, lock: Path, *, rest_s: float) -> None:
        self._lock = lock
        self._rest_s = rest_s
        self._seen: dict[int, tuple[Activity, float]] = {}

    def holders(self) -> list[int]:
        """Return the processes that have the lock open, as far as this user may see."""
        return sorted({int(fd.parts[2]) for fd in PROC.glob("[0-9]*/fd/*") if _points_to(fd, self._lock)})

    def end_idle(self) -> None:
        """Kill who has had no child and no processor time for `rest_s` seconds, and whose parent is no holder.

        Who has a child gets `SILENT` times as long, in which the child does nothing either; it is ended with it.
        """
        holders = self.holders()
        for pid in holders:
            with suppress(OSError):  # it ended by itself
                children = _living_children(pid)
                if self._is_at_rest(pid, children, holders):
                    for one in (pid, *children):
                        os.kill(one, signal.SIGKILL)

    def _is_at_rest(self, pid: int, children: tuple[int, ...], holders: list[int]) -> bool:
        activity = (sum(map(_ticks, (pid, *children))), children)
        before, since = self._seen.get(pid, (None, 0.0))
        if activity != before or int(_stat(pid)[PARENT]) in holders:
            self._seen[pid] = (activity, time.monotonic())
            return False
        return time.monotonic() - since >= self._rest_s * (SILENT if children else 1)


def _points_to(descriptor: Path, file: Path) -> bool:
    try:
        return descriptor.parts[2] != str(os.getpid()) and descriptor.readlink() == file
    except OSError:
        return False


def _ticks(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[USER_TICKS]) + int(stat[SYSTEM_TICKS])


def _living_children(pid: int) -> tuple[int, ...]:
    children = [int(child) for task in (PROC / f"{pid}/task").iterdir() for child in _read_children(task)]
    return tuple(child for child in children if _is_living(child))


def _read_children(task: Path) -> list[str]:
    return (task / "children").read_text().split()


def _is_living(pid: int) -> bool:
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    return (PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
