"""Processes as the kernel shows them. A pid alone names nobody: it is used again."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """`start_ticks` is since boot: with the pid and the boot it names one process for ever."""

    pid: int
    session: int
    start_ticks: int
    is_zombie: bool


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def read_process(pid: int) -> Process | None:
    """Return what runs under this pid now (proc_pid_stat(5))."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return Process(pid=pid, session=int(fields[3]), start_ticks=int(fields[19]), is_zombie=fields[0] in "ZX")


def send_signal(target: Process, number: signal.Signals) -> None:
    """Signal this very process, or nobody when it is gone."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(target.pid)
        try:
            now = read_process(target.pid)
            if now is not None and now.start_ticks == target.start_ticks:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def session_members(session: int, *, since_ticks: int) -> Iterator[Process]:
    """Yield what lives in the session of a leader that started at `since_ticks`, the leader too.

    A session's number is not given out again while a member lives, so another leader under it means that ours is gone.
    """
    leader = read_process(session)
    if leader is not None and leader.start_ticks != since_ticks:
        return
    for entry in PROC.iterdir():
        process = read_process(int(entry.name)) if entry.name.isdigit() else None
        if process is not None and process.session == session and not process.is_zombie:
            yield process
