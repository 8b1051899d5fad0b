"""How many lines of one batch are under way at once: what its endpoint has, divided by the batches that want it."""

import asyncio

from controlplane.gateway.batch.brake import Brake
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.errors import NoSnapshot
from controlplane.gateway.hub import Hub

_PARALLEL_UNKNOWN = 4


class Seats:
    """`sharers` batches are at work at the same endpoint."""

    def __init__(self, hub: Hub, limits: BatchLimits, brake: Brake) -> None:
        self.sharers = 1
        self._hub = hub
        self._limits = limits
        self._brake = brake
        self._taken = 0
        self._bytes = 0
        self._changed = asyncio.Event()

    async def take(self, model: str, size: int) -> bool:
        """Wait for a seat for a line of `size` bytes; False when no more lines are wanted."""
        while not (self._brake.is_on or self._hub.draining):
            if self._taken < self._most(model) and self._fits(size):
                self._taken += 1
                self._bytes += size
                return True
            self._changed.clear()
            await self._changed.wait()
        return False

    def give_back(self, size: int) -> None:
        self._taken -= 1
        self._bytes -= size
        self._changed.set()

    def look(self) -> None:
        """Look again: replicas, the disk or the end may have come."""
        self._changed.set()

    def _fits(self, size: int) -> bool:
        return not self._taken or self._bytes + size <= self._limits.bytes_at_once

    def _most(self, model: str) -> int:
        """Return how many lines may be under way now: none on a full disk, one where the endpoint has nothing yet."""
        if self._brake.disk_is_full:
            return 0
        try:
            endpoint = self._hub.directory(self._hub.clock.now()).endpoints.get(model)
        except NoSnapshot:
            return 1
        room = (endpoint.parallel or _PARALLEL_UNKNOWN) * len(endpoint.replicas) if endpoint is not None else 1
        return max(1, min(room // self.sharers, self._limits.lines_at_once))
