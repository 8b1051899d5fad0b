"""What became of each line of a batch, on the disk before it counts: a line whose result is here is never done again.

Frames are sealed one by one. Results that come together become durable together; what a kill cut off at the end of the
file was promised to nobody and is cut off at the next start. A whole frame that was damaged costs its own line alone.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import structlog
from cryptography.exceptions import InvalidTag

from controlplane.gateway.batch.sealed import HEADER_BYTES, Damaged, Sealing, next_frame, write_frame
from controlplane.kit.crypto import seal, unseal

log = structlog.get_logger()

Kind = Literal["begun", "let_go", "answered", "failed"]
Append = Callable[[Callable[[list["Entry"]], None], list["Entry"]], Awaitable[None]]  # in a thread
_LENGTH = 4


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """`begun` before a line is sent, `let_go` when it was given up unharmed; `result` is a line of output or errors."""

    kind: Kind
    line: int
    result: bytes = b""

    @property
    def is_result(self) -> bool:
        return self.kind in {"answered", "failed"}


class LogFile:
    """The file itself; it blocks. `size` is what is certain, and an error leaves nothing behind that."""

    def __init__(self, path: Path, sealing: Sealing, name: str) -> None:
        self._path = path
        self._sealing = sealing
        self._key = b""
        self._name = name
        self._descriptor = -1
        self._frames = 0
        self._size = 0

    def open(self) -> Iterator[Entry]:
        """Yield what is in it, then be ready to append. Raises OSError."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            has_key = self._take_key(file.read(HEADER_BYTES))
            while has_key and (sealed := next_frame(file.read(_LENGTH), file.read)) is not None:
                entry = self._unseal(sealed)
                self._frames += 1
                self._size += _LENGTH + len(sealed)
                if entry is not None:
                    yield entry
        os.ftruncate(self._descriptor, self._size)
        os.lseek(self._descriptor, self._size, os.SEEK_SET)

    def append(self, entries: list[Entry]) -> None:
        """Add entries, all or none; results among them are durable then. Raises OSError."""
        frames, size = self._frames, self._size
        try:
            for entry in entries:
                sealed = seal(self._key, msgspec.msgpack.encode(entry), self._place(frames))
                size += write_frame(self._descriptor, sealed)
                frames += 1
            if any(entry.is_result for entry in entries):
                os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._frames, self._size = frames, size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take_key(self, header: bytes) -> bool:
        """Open the file's own key; without it what follows is lost, and the file begins anew: return False."""
        self._size = HEADER_BYTES
        try:
            self._key = self._sealing.key_in(header, self._name)
        except Damaged as error:
            if header:
                log.error("batch.log_lost", file=str(self._path), error=str(error))  # noqa: TRY400 - the cause is in the line
            self._key, header = self._sealing.new_key(self._name)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, header, 0)
            return False
        return True

    def _unseal(self, sealed: bytes) -> Entry | None:
        """Return what a frame says, None where it is damaged."""
        try:
            plain = unseal(self._key, sealed, self._place(self._frames))
            return msgspec.msgpack.decode(plain, type=Entry)
        except (InvalidTag, ValueError):
            log.error("batch.log_damaged", file=str(self._path), frame=self._frames, at_byte=self._size)  # noqa: TRY400 - the place is the cause
            return None

    def _place(self, number: int) -> bytes:
        return f"{self._name} log {number}".encode()


class ResultLog:
    """Writes entries in groups: who comes while one is being written goes with the next."""

    def __init__(self, file: LogFile, run: Append) -> None:
        self._file = file
        self._run = run
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, entry: Entry) -> None:
        """Return once the entry is written, and durable if it is a result. Raises OSError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())
        await done

    async def settle(self) -> None:
        """Wait until nothing is being written any more."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            error: OSError | None = None
            try:
                await self._run(self._file.append, [entry for entry, _ in group])
            except OSError as caught:
                error = caught
            for _, done in group:
                _tell(done, error)
        self._writing = None


def _tell(done: "asyncio.Future[None]", error: OSError | None) -> None:
    if done.done():
        return  # nobody waits any more
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
