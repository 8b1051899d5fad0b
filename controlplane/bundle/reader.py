"""Read the bytes of a tar at any place, whether it lies as one file or as parts. Standard library alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

Advance = Callable[[int], None]  # is told of bytes that are done
Begin = Callable[[int], Advance]  # is told of how many there are


def unseen(size_bytes: int) -> None:
    """Advance nothing."""
    del size_bytes


def unwatched(total_bytes: int) -> Advance:
    """Begin where nobody watches."""
    del total_bytes
    return unseen


class Reader(Protocol):
    @property
    def size_bytes(self) -> int: ...

    def read_into(self, buffer: memoryview, at: int) -> int:
        """Fill the buffer from a place on; return how many bytes there were."""
        ...

    def forget(self, at: int, size_bytes: int) -> None:
        """Give the space of a range back where that is wanted; what was there cannot be read again."""
        ...


def read(reader: Reader, size_bytes: int, at: int) -> bytes:
    """Return up to so many bytes from a place on."""
    buffer = bytearray(max(0, min(size_bytes, reader.size_bytes - at)))
    return bytes(buffer[: reader.read_into(memoryview(buffer), at)])


class OneFile:
    """A tar as one file. `punch` gives its space back as it is read, which needs the file to be ours."""

    def __init__(self, handle: int, punch: "Punch | None" = None) -> None:
        self._handle = handle
        self._punch = punch

    @property
    def size_bytes(self) -> int:
        return os.fstat(self._handle).st_size

    def read_into(self, buffer: memoryview, at: int) -> int:
        return _fill(self._handle, buffer, at)

    def forget(self, at: int, size_bytes: int) -> None:
        if self._punch:
            self._punch(self._handle, at, size_bytes)


class Parts:
    """A tar in parts, read as if they were one."""

    def __init__(self, handles: Sequence[int]) -> None:
        self._parts = [(handle, os.fstat(handle).st_size) for handle in handles]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self._parts)

    def read_into(self, buffer: memoryview, at: int) -> int:
        done, begin = 0, 0
        for handle, size in self._parts:
            place = at + done - begin
            if 0 <= place < size and done < len(buffer):
                done += _fill(handle, buffer[done : done + size - place], place)
            begin += size
        return done

    def forget(self, at: int, size_bytes: int) -> None:
        """Parts are somebody's medium; they stay."""


class Punch(Protocol):
    def __call__(self, handle: int, at: int, size_bytes: int) -> None: ...


@contextmanager
def opened(paths: Sequence[Path], punch: Punch | None = None) -> Iterator[Reader]:
    """Open one file, or parts in their order."""
    with ExitStack() as stack:
        handles = [os.open(path, os.O_RDWR if punch else os.O_RDONLY) for path in paths]
        for handle in handles:
            stack.callback(os.close, handle)
        yield OneFile(handles[0], punch) if len(handles) == 1 else Parts(handles)


def _fill(handle: int, buffer: memoryview, at: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(handle, [buffer[done:]], at + done)
        if count == 0:
            break
        done += count
    return done
