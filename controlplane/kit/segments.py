"""Lines that are on this disk before anything is said to have happened: append-only files, one fsync for all."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from controlplane.kit.durable_files import sync_folder

LARGEST_BYTES = 64 * 1024**2  # of one file
TAIL_BYTES = 4 * 1024**2  # how much of a file's end is read back
PATIENCE_S = 5.0  # a disk that takes longer than this is away

Waiting = tuple[bytes, asyncio.Future[None]]


class SegmentWriter:
    """Appends for one process to `folder/<name>-0001.jsonl` and on.

    While one group is being written the next one gathers, so nobody waits longer than two writes. After any failure the
    file is cut back to its last good line and left; the next group gets a new one, because what an fsync that failed
    did to a file is unknown.
    """

    def __init__(
        self, folder: Path, name: str, *, patience_s: float = PATIENCE_S, largest_bytes: int = LARGEST_BYTES
    ) -> None:
        self._folder = folder
        self._name = name
        self._patience_s = patience_s
        self._largest_bytes = largest_bytes
        self._waiting: list[Waiting] = []
        self._notes: list[bytes] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "segments")
        self._file = -1
        self._size = 0
        self._number = 0

    async def append(self, lines: Sequence[bytes]) -> None:
        """Return when the lines are on the disk; raises OSError when they are not, TimeoutError when nobody knows."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((_joined(lines), done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._write_groups())
        await done

    def note(self, line: bytes) -> None:
        """Write a line with the next group, or at the end: true, but nobody waits for it."""
        self._notes.append(line)

    async def close(self) -> None:
        """Finish what is being written, then the notes."""
        if self._worker is not None:
            await asyncio.wait([self._worker], timeout=self._patience_s)
        if self._notes and self._file >= 0:
            await self.append([])
        self._thread.shutdown(wait=False)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            data = _joined(self._notes) + b"".join([lines for lines, _ in group])
            self._notes = []
            writing = loop.run_in_executor(self._thread, self._write, data)
            while not (await asyncio.wait([writing], timeout=self._patience_s))[0]:
                self._give_up(group)
            _tell(group, writing.exception())

    def _give_up(self, group: Sequence[Waiting]) -> None:
        """Tell all who wait for a disk that is away: those being written, and those behind them, who never will be."""
        behind, self._waiting = self._waiting, []
        _tell([*group, *behind], TimeoutError("the disk does not answer"))

    def _write(self, data: bytes) -> None:
        if self._file < 0 or self._size > self._largest_bytes:
            self._open_next()
        try:
            _write_whole(self._file, data)
            os.fdatasync(self._file)
        except OSError:
            self._abandon()
            raise
        self._size += len(data)

    def _open_next(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._number += 1
        path = self._folder / f"{self._name}-{self._number:04d}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._size = 0
        try:
            sync_folder(self._folder)
        except OSError:
            self._abandon()  # its name may not last, so nothing may be in it
            raise

    def _abandon(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            pass  # a torn last line is what readers expect of a file that broke
        finally:
            os.close(self._file)
            self._file = -1


class Ballast:
    """Room on a disk that is kept for the one who must still be able to act when it is full."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def reserve(self) -> None:
        """Take the room, if it is not taken; raises OSError when there is none."""
        if self._size_bytes == 0 or (self._path.exists() and self._path.stat().st_size == self._size_bytes):
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, self._size_bytes)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(file)

    def release(self) -> bool:
        """Give the room back; False when it is given already."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def read_tails(folder: Path, files: int = 8) -> Iterator[bytes]:
    """Yield the whole lines at the ends of the newest files; a torn line is skipped."""
    newest = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)[-files:]
    for path in newest:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read().split(b"\n")
        yield from lines[1 if size > TAIL_BYTES else 0 : -1]


def delete_older(folder: Path, before_s: float) -> int:
    """Delete files that nobody wrote to since `before_s` (POSIX); return how many."""
    old = [path for path in folder.glob("*.jsonl") if path.stat().st_mtime < before_s]
    for path in old:
        path.unlink()
    return len(old)


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join([line + b"\n" for line in lines])


def _write_whole(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _tell(group: Sequence[Waiting], error: BaseException | None) -> None:
    for _, done in group:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
