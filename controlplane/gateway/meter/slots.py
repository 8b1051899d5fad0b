"""What the workers of a node counted, a file for each: a worker that is started anew goes on where the last one was."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from controlplane.gateway.meter.metrics import Counted
from controlplane.kit.errors import Unavailable

log = structlog.get_logger()

MOST_WORKERS = 64


class Slot:
    """The place of one worker, held by a lock for as long as it lives."""

    def __init__(self, folder: Path, number: int, lock: int) -> None:
        self._folder = folder
        self._path = folder / f"{number}.json"
        self._lock = lock

    def before(self) -> Counted:
        """Return what this place counted before; its gauges are over."""
        return _without_gauges(_read(self._path) or Counted())

    def write(self, counted: Counted) -> None:
        """Let the others see it. Raises OSError; it is no record, so a power loss may take the last second of it."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(counted))
        fresh.replace(self._path)

    def all(self, own: Counted) -> Iterator[Counted]:
        """Yield what each worker counted, ours as it is now; what a dead one counted stays, its gauges do not."""
        yield own
        for path in sorted(self._folder.glob("*.json")):
            other = _read(path) if path != self._path else None
            if other is not None:
                yield other if _is_held(path.with_suffix(".lock")) else _without_gauges(other)

    def close(self) -> None:
        os.close(self._lock)


def take_slot(state_dir: Path) -> Slot:
    """Take the first place that no living worker has. Raises Unavailable."""
    folder = state_dir / "metrics"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(MOST_WORKERS):
        lock = _take_lock(folder / f"{number}.lock")
        if lock is not None:
            return Slot(folder, number, lock)
    raise Unavailable(f"{MOST_WORKERS} workers count in {folder} already", remedy="stop the other gateway of this node")


def _take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the file, None while another process holds it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _is_held(path: Path) -> bool:
    """Say whether a worker lives at this place. Shared, so that two that look at once do not see each other."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _without_gauges(counted: Counted) -> Counted:
    return Counted(counted.series, counted.refusals)


def _read(path: Path) -> Counted | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Counted)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:  # another version's
        log.warning("metrics.unreadable", file=str(path), error=str(error))
        return None
