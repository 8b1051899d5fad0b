"""What can end the work on a batch before its last line, and what it waits for meanwhile."""

import asyncio
import contextlib

from controlplane.gateway.batch.records import BatchStatus, Fault


class Brake:
    """`ending` None with `is_on` lets go: the batch goes on in another process. `waiting` is for its client to see."""

    def __init__(self) -> None:
        self.ending: BatchStatus | None = None
        self.fault: Fault | None = None
        self.waiting: Fault | None = None
        self.disk_is_full = False
        self._on = asyncio.Event()

    @property
    def is_on(self) -> bool:
        return self._on.is_set()

    def let_go(self) -> None:
        self._on.set()

    def end(self, ending: BatchStatus, fault: Fault | None) -> None:
        """End it so; lines without a result fail with `fault`, or are left out. The first reason counts."""
        if not self.is_on:
            self.ending, self.fault = ending, fault
            self._on.set()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until it is on."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._on.wait(), seconds)
