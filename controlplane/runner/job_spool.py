"""What a command writes, on its way to the control plane: bounded in memory, on the disk and in all.

The command never waits for it. What does not fit is cut, and the log says where and how much.
"""

import fcntl
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Self  # `Any`: the values of a model that is built unchecked

from controlplane.contracts.jobs import CHUNK_BYTES, CHUNKS_AT_ONCE, OutputPart

BUFFER_BYTES = 4 * 1024**2
TAIL_BYTES = 64 * 1024
OURS = "redoubt"


@dataclass(frozen=True)
class Piece:
    stream: str
    at: datetime
    data: bytes


class Buffer:
    """Takes what pipes give at once; a writer empties it. Beyond `limit_bytes` only the end is kept."""

    def __init__(self, limit_bytes: int, now: Callable[[], datetime]) -> None:
        self._limit_bytes = max(limit_bytes - TAIL_BYTES, 0)
        self._now = now
        self._waiting: deque[Piece] = deque()
        self._tail: deque[Piece] = deque()
        self._waiting_bytes = self._tail_bytes = self._taken_bytes = self._cut_bytes = 0

    def put(self, stream: str, data: bytes) -> None:
        """Keep a piece, or count it as cut."""
        piece = Piece(stream, self._now(), data)
        if self._taken_bytes + len(data) > self._limit_bytes:
            self._keep_end(piece)
        elif self._waiting_bytes + len(data) > BUFFER_BYTES:
            self._cut_bytes += len(data)
        else:
            self._mark_cut()
            self._append(piece)

    def say(self, words: str) -> None:
        """Add a line of our own."""
        self._append(Piece(OURS, self._now(), f"[redoubt: {words}]\n".encode()))

    def cut(self, size: int) -> None:
        """Count bytes that could not be kept further on."""
        self._cut_bytes += size

    def take(self) -> list[Piece]:
        """Give what waits, joined into parts of one stream each."""
        found = list(_join(self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        return found

    def finish(self) -> None:
        """Add what was kept of the end."""
        self._limit_bytes = self._taken_bytes + self._tail_bytes + CHUNK_BYTES
        self._mark_cut()
        for piece in self._tail:
            self._append(piece)
        self._tail.clear()

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def _append(self, piece: Piece) -> None:
        self._waiting.append(piece)
        self._waiting_bytes += len(piece.data)
        self._taken_bytes += len(piece.data)

    def _keep_end(self, piece: Piece) -> None:
        self._limit_bytes = 0  # from here on everything is the end, until the next is
        self._tail.append(piece)
        self._tail_bytes += len(piece.data)
        while self._tail_bytes > TAIL_BYTES:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone.data)
            self._cut_bytes += len(gone.data)

    def _mark_cut(self) -> None:
        if self._cut_bytes:
            size, self._cut_bytes = self._cut_bytes, 0
            self.say(f"{size} bytes of output were cut here, because it was too much or could not be shipped")


class Spool:
    """The folder of one start: a file for each part, in order, until it was taken. Held while its supervisor lives."""

    def __init__(self, folder: Path, held: int, limit_bytes: int) -> None:
        self.folder = folder
        self._held = held
        self._limit_bytes = limit_bytes
        self._counting = Lock()
        self._next = max((_sequence(path) for path in self._paths()), default=-1) + 1
        self._bytes = sum(path.stat().st_size for path in self._paths())

    @classmethod
    def make(cls, folder: Path, identity: dict[str, object], limit_bytes: int) -> Self:
        """Make a folder that only this user can read; `identity` is what a later supervisor ships its rest with."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
        handle = os.open(folder / "identity", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(identity, file)
        return cls(folder, held, limit_bytes)

    @classmethod
    def adopt(cls, folder: Path) -> Self | None:
        """Take over what a supervisor that is gone has left; None when one lives, or it is not ours."""
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if os.fstat(held).st_uid != os.geteuid():
                raise BlockingIOError
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(folder, held, 0)
        except OSError:
            os.close(held)
            return None

    def identity(self) -> dict[str, object]:
        """Return what the rest is shipped with, {} when there is nothing readable."""
        try:
            found = json.loads((self.folder / "identity").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def has_room(self) -> bool:
        """Say whether more may be written down; while it may not, the buffer fills, and then what is new is cut."""
        return self._bytes < self._limit_bytes

    def write(self, pieces: list[Piece]) -> int:
        """Keep pieces on the disk; return how many bytes a full or broken disk lost."""
        lost = 0
        for piece in pieces:
            path = self.folder / f"{self._next:012d}.{piece.stream}.{int(piece.at.timestamp() * 1_000_000)}"
            fresh = self.folder / "fresh"  # whoever ships must not read half a part
            try:
                fresh.write_bytes(piece.data)
                fresh.replace(path)
            except OSError:  # a full disk must not end the command
                lost += len(piece.data)
                continue
            self._next += 1
            self._count(len(piece.data))
        return lost

    def first(self) -> tuple[int, list[OutputPart]]:
        """Return the next parts to ship, and the number of the first; empty when all were taken."""
        paths = self._paths()[:CHUNKS_AT_ONCE]
        return (_sequence(paths[0]), [_read(path) for path in paths]) if paths else (self._next, [])

    def drop_before(self, sequence: int) -> None:
        """Forget what was taken."""
        for path in self._paths():
            if _sequence(path) < sequence:
                self._count(-path.stat().st_size)
                path.unlink()

    def close(self, *, keep: bool) -> None:
        """Let go of the folder; one that nobody needs any more is removed."""
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._held)

    def _count(self, size: int) -> None:
        with self._counting:  # one thread writes down while another forgets
            self._bytes += size

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.name[:12].isdecimal() and path.stat().st_size)


def _join(pieces: deque[Piece]) -> Iterator[Piece]:
    """Join neighbours of one stream, and split what is longer than a part may be."""
    stream, at, data = "", datetime.min.replace(tzinfo=UTC), b""
    for piece in pieces:
        if piece.stream != stream or len(data) + len(piece.data) > CHUNK_BYTES:
            yield from _split(stream, at, data)
            stream, at, data = piece.stream, piece.at, b""
        data += piece.data
    yield from _split(stream, at, data)


def _split(stream: str, at: datetime, data: bytes) -> Iterator[Piece]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield Piece(stream, at, data[start : start + CHUNK_BYTES])


def _sequence(path: Path) -> int:
    return int(path.name[:12])


def _read(path: Path) -> OutputPart:
    _number, stream, micros = path.name.split(".")
    at = datetime.fromtimestamp(int(micros) / 1_000_000, UTC)
    # built without validation, which would decode bytes that are not encoded yet
    values: dict[str, Any] = {"stream": stream, "at": at, "data": path.read_bytes()}
    return OutputPart.model_construct(**values)
