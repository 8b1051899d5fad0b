"""What the workers of a node tell each other: shared memory in which each writes its own row and reads the others'.

A row is locked while its worker lives, and the kernel frees it whatever the worker dies of. Nothing is waited for
but the moment in which a name gets its column.
"""

import asyncio
import fcntl
import mmap
import os
from array import array
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from controlplane.gateway.shared_table import digest_of

log = structlog.get_logger()

_ROWS: Final = 64
_COLUMNS: Final = 1024
_CELL: Final = 3  # whether the worker uses the column, and two numbers
_NUMBERS: Final = _COLUMNS * _CELL
RING: Final = 4096  # words
_ROW: Final = _NUMBERS + 1 + RING  # the one is how many words were ever put into the ring
_DIGESTS_AT: Final = _ROWS  # behind a word for every row that somebody has taken
_ROWS_AT: Final = _DIGESTS_AT + _COLUMNS
_WORDS: Final = _ROWS_AT + (_ROWS + 1) * _ROW  # the last row is for those who found none, and nobody reads it
_UNUSED: Final = array("q", bytes(8 * _NUMBERS))
_LOOKS_EVERY_S = 0.02
_WIPES_EVERY_S = 0.5


def make_memory() -> int:
    """Return a descriptor of memory that children inherit. Raises OSError when there is not so much."""
    descriptor = os.memfd_create("redoubt-workers")
    os.posix_fallocate(descriptor, 0, 8 * _WORDS)  # a mapped page could only crash
    return descriptor


class NodePage:
    """`others` are the rows of the other workers, kept as they come and go; `own` is this one's.

    More than 64 workers or 1,024 names: those beyond see nothing of each other. Numbers are of 63 bits.
    """

    def __init__(self, memory: int) -> None:
        self._descriptor = memory
        self._map = mmap.mmap(memory, 8 * _WORDS)
        self.words = memoryview(self._map).cast("q")
        self.others: list[int] = []
        self._number = next((number for number in range(_ROWS) if self._lock(number)), _ROWS)
        self.own = _row(self._number)
        self._wipe(self._number)
        if self._number < _ROWS:
            self.words[self._number] = 1
        else:
            log.warning("workers.too_many", rows=_ROWS)
        self.look()

    def close(self) -> None:
        """Let the row go; the descriptor stays its owner's."""
        self.words.release()
        self._map.close()
        if self._number < _ROWS:
            self._unlock(self._number)

    def look(self) -> None:
        """See who lives; what a dead worker said of itself is wiped."""
        alive = []
        for number in range(_ROWS):
            if number == self._number or not self.words[number]:
                continue
            if self._lock(number):
                self._wipe(number)
                self.words[number] = 0
                self._unlock(number)
            else:
                alive.append(_row(number))
        self.others[:] = alive

    def claim(self, name: str) -> int | None:
        """Return where in every row the two numbers of a name are, until it is released; None when all are in use."""
        digest = digest_of(name) >> 1 | 1
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, _ROWS)
        try:
            column = self._column_of(digest)
            if column is None:
                return None
            self.words[_DIGESTS_AT + column] = digest
            self.words[self.own + column * _CELL] = 1
            return column * _CELL + 1
        finally:
            self._unlock(_ROWS)

    def release(self, at: int) -> None:
        """Say nothing more there; when no worker does, another name may have the column."""
        first = self.own + at
        self.words[first] = self.words[first + 1] = 0
        self.words[first - 1] = 0

    def put(self, words: "array[int]") -> None:
        """Add to the own ring; the oldest words are overwritten."""
        head_at, length = self.own + _NUMBERS, len(words)
        head: int = self.words[head_at]
        ring, at = head_at + 1, head % RING
        room = RING - at
        if length <= room:
            self.words[ring + at : ring + at + length] = words
        else:
            self.words[ring + at : ring + RING] = words[:room]
            self.words[ring : ring + length - room] = words[room:]
        self.words[head_at] = head + length

    def head(self, row: int) -> int:
        """Return how many words were ever put into the ring of a row."""
        return self.words[row + _NUMBERS]

    def read(self, row: int, start: int, length: int) -> list[int]:
        """Return words of a ring, from the one of that number on; they may be torn."""
        ring, at = row + _NUMBERS + 1, start % RING
        words: list[int] = self.words[ring + at : ring + min(at + length, RING)].tolist()
        if at + length > RING:
            words += self.words[ring : ring + at + length - RING].tolist()
        return words

    async def watch(self, looks: Sequence[Callable[[], None]]) -> None:
        """Call them whenever another worker may have said something."""
        while True:
            taken = self.words[:_ROWS].tolist()
            for _ in range(round(_WIPES_EVERY_S / _LOOKS_EVERY_S)):
                await asyncio.sleep(_LOOKS_EVERY_S)
                for look in looks:
                    look()
                if self.words[:_ROWS].tolist() != taken:
                    break  # somebody has come
            self.look()

    def _column_of(self, digest: int) -> int | None:
        digests = self.words[_DIGESTS_AT:_ROWS_AT].tolist()
        for wanted in (digest, 0):
            if wanted in digests:
                return digests.index(wanted)
        return next((column for column in range(_COLUMNS) if not self._is_used(column)), None)

    def _is_used(self, column: int) -> bool:
        return any(self.words[_row(0) + column * _CELL : _row(_ROWS) : _ROW].tolist())

    def _wipe(self, number: int) -> None:
        self.words[_row(number) : _row(number) + _NUMBERS] = _UNUSED

    def _lock(self, number: int) -> bool:
        """Take the lock of a row. False when another process lives in it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except BlockingIOError:
            return False
        return True

    def _unlock(self, number: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, number)


def _row(number: int) -> int:
    return _ROWS_AT + number * _ROW
