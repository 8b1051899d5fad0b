"""One spool on the disk: a folder of segments that only grow, locked by the process that writes it."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controlplane.contracts.spool import FIRST_PREV
from controlplane.gateway.records import AnyRecord, Chain, Closed, Intent, Outcome, read_record
from controlplane.kit.durable_files import sync_folder

SEGMENT_BYTES = 4 * 1024 * 1024
_LOCK = "lock"


@dataclass(frozen=True)
class Segment:
    """`first` is the number of its first line; it is in the file's name."""

    path: Path
    first: int


def segments(folder: Path) -> list[Segment]:
    """Return the segments in order."""
    return [Segment(path, int(path.stem)) for path in sorted(folder.glob("*.jsonl"))]


def take_lock(folder: Path) -> int | None:
    """Return a descriptor that holds the spool, None while another process holds it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def whole_lines(path: Path, offset: int = 0) -> Iterator[bytes]:
    """Yield every line that has its end, without it."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line[:-1]


class SpoolFile:
    """Appends to a spool. After an error nothing is written until the last segment is cut back to what is certain."""

    def __init__(self, folder: Path, chain: Chain) -> None:
        self.folder = folder
        self.chain = chain
        self._descriptor = -1
        self._path = folder
        self._certain = 0  # bytes of the open segment that are on the disk

    def append(self, records: Sequence[AnyRecord]) -> int:
        """Make the records durable, all or none; return the number of bytes. Raises OSError."""
        if self._descriptor < 0 or self._certain >= SEGMENT_BYTES:
            self._open_next()
        chain = self.chain.copy()
        data = b"".join(chain.add(record) + b"\n" for record in records)
        try:
            _write_all(self._descriptor, data)
            os.fdatasync(self._descriptor)
        except OSError:
            self._give_up_segment()
            raise
        self.chain = chain
        self._certain += len(data)
        return len(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open_next(self) -> None:
        """Go on in a new file: what an error left behind an older one's last line is cut off first."""
        if self._path != self.folder:
            _cut(self._path, self._certain)
            self._path = self.folder
        self.close()
        path = self.folder / f"{self.chain.next_seq:016d}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._path, self._certain = path, 0
        try:
            sync_folder(self.folder)
        except OSError:
            self.close()  # its name may not last, so nothing may be in it
            raise

    def _give_up_segment(self) -> None:
        """After a failed fdatasync the kernel may have forgotten the pages: this file is never written again."""
        self.close()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cut(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size != size:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class Found:
    """What a spool holds: the place after its last line, the intents without outcome, and whether it has its end."""

    chain: Chain
    unanswered: dict[str, Intent]
    is_closed: bool = False


def read_spool(folder: Path) -> Found:
    """Read a whole spool and prove its chain. A torn last line was never promised to anybody and is cut off.

    Raises ValueError when a whole line is not what follows, OSError from the disk.
    """
    found = Found(Chain(), {})
    for segment in segments(folder):
        if not found.chain.next_seq:
            found.chain = _begin(segment)
        certain = 0
        for line in whole_lines(segment.path):
            record = read_record(line)
            found.chain.follow(line, record)
            _take(found, record)
            certain += len(line) + 1
        _cut(segment.path, certain)
    return found


def _begin(segment: Segment) -> Chain:
    """The oldest segments may have been shipped and dropped: the chain is proved from the first that is left."""
    first = next(whole_lines(segment.path), None)
    return Chain(segment.first, read_record(first).prev if first and segment.first else FIRST_PREV)


def _take(found: Found, record: AnyRecord) -> None:
    match record:
        case Intent():
            found.unanswered[record.request] = record
        case Outcome():
            found.unanswered.pop(record.request, None)
        case Closed():
            found.is_closed = True
        case _:
            pass
