"""Who sits where, on one mapped page for all workers of a node: each writes its own row and reads the others'."""

import asyncio
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from struct import Struct

from controlplane.gateway.shared_table import digest_of

_WORKERS = 32
_ENDPOINTS = 1024
_DIGEST = Struct("<Q")
_COLUMN = Struct(f"<{_WORKERS}I")  # what each worker has seated at one endpoint
_CELL = Struct("<I")
_COLUMNS_AT = _ENDPOINTS * _DIGEST.size
_USED_AT = _COLUMNS_AT + _ENDPOINTS * _COLUMN.size  # a byte for every row that somebody has taken
_LOCKS_AT = _USED_AT + _WORKERS
_NOBODY = -1
_LOOKS_EVERY_S = 0.02
_WIPES_EVERY_S = 0.5


class SeatBoard:
    """A row is locked while its worker lives; the row of a dead one is wiped by any other.

    More than 32 workers or 1,024 endpoints: those beyond see nothing of each other, and queue each for itself.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the board, and take a row. Raises OSError."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._descriptor, 0, _LOCKS_AT + _WORKERS + 1)
        self._map = mmap.mmap(self._descriptor, _LOCKS_AT)
        self._columns: dict[str, int] = {}
        self._row = next((row for row in range(_WORKERS) if self._lock(row)), _NOBODY)
        if self._row != _NOBODY:
            self._wipe(self._row)
            self._map[_USED_AT + self._row] = 1

    def close(self) -> None:
        self._map.close()
        os.close(self._descriptor)

    def seats(self, endpoint_id: str) -> int:
        """Return how many the other workers have seated."""
        column = self._column(endpoint_id)
        if column == _NOBODY:
            return 0
        seats: tuple[int, ...] = _COLUMN.unpack_from(self._map, column)
        return sum(seats) - (seats[self._row] if self._row != _NOBODY else 0)

    def tell(self, endpoint_id: str, seated: int) -> None:
        column = self._column(endpoint_id)
        if _NOBODY not in (column, self._row):
            _CELL.pack_into(self._map, column + self._row * _CELL.size, seated)

    def wipe_the_dead(self) -> None:
        """Free the seats of workers that died in them."""
        for row in range(_WORKERS):
            if row != self._row and self._map[_USED_AT + row] and self._lock(row):
                self._wipe(row)
                self._map[_USED_AT + row] = 0
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _LOCKS_AT + row)

    async def watch(self, look: Callable[[], None]) -> None:
        """Call `look` whenever another worker may have left a seat."""
        while True:
            for _ in range(round(_WIPES_EVERY_S / _LOOKS_EVERY_S)):
                await asyncio.sleep(_LOOKS_EVERY_S)
                look()
            self.wipe_the_dead()

    def _column(self, endpoint_id: str) -> int:
        """Return where the endpoint's column begins."""
        column = self._columns.get(endpoint_id)
        if column is None:
            column = self._columns[endpoint_id] = self._find_column(digest_of(endpoint_id) or 1)
        return column

    def _find_column(self, digest: int) -> int:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, _LOCKS_AT + _WORKERS)
        try:
            for number in range(_ENDPOINTS):
                (found,) = _DIGEST.unpack_from(self._map, number * _DIGEST.size)
                if found in {0, digest}:
                    _DIGEST.pack_into(self._map, number * _DIGEST.size, digest)
                    return _COLUMNS_AT + number * _COLUMN.size
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _LOCKS_AT + _WORKERS)
        return _NOBODY

    def _lock(self, row: int) -> bool:
        """Take the lock of a row. False when another process lives in it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKS_AT + row)
        except BlockingIOError:
            return False
        return True

    def _wipe(self, row: int) -> None:
        for number in range(_ENDPOINTS):
            _CELL.pack_into(self._map, _COLUMNS_AT + number * _COLUMN.size + row * _CELL.size, 0)
