"""The metrics of a whole node, as any of its workers tells them: its own as of now, the others' as of a moment ago.

The worker that is asked serves requests too: it makes the page in slices, once a second at most, however many ask.
"""

import asyncio
from collections.abc import Callable

import structlog

from controlplane.gateway.hub import Hub
from controlplane.gateway.meter.exposition import lines_of, to_page
from controlplane.gateway.meter.metrics import Counted, merging
from controlplane.gateway.meter.slots import Slot

log = structlog.get_logger()

PAGE_S = 1.0
KEEP_S = 600.0
_LINES_AT_ONCE = 200


class NodeMetrics:
    """`backlog_bytes` is what this worker has not shipped yet."""

    def __init__(self, hub: Hub, slot: Slot, backlog_bytes: Callable[[], int]) -> None:
        self._hub = hub
        self._slot = slot
        self._backlog_bytes = backlog_bytes
        self._making = asyncio.Lock()
        self._page = b""
        self._made_at_s = float("-inf")
        self._kept_at_s = float("-inf")

    async def step(self) -> None:
        """Let the other workers see what this one counted, and forget what is no more. Raises OSError."""
        now_s = self._hub.time()
        if self._hub.snapshot_version and now_s - self._kept_at_s >= KEEP_S:
            self._kept_at_s = now_s
            self._hub.metrics.keep(*self._hub.names())
        if self._hub.metrics.is_news:
            self._hub.metrics.is_news = False
            self._slot.write(self._counted())

    async def page(self) -> bytes:
        """Return the page; nothing is asked of the loop for longer than one worker's part takes."""
        async with self._making:
            if self._hub.time() - self._made_at_s >= PAGE_S:
                self._page = await self._make()
                self._made_at_s = self._hub.time()
            return self._page

    async def _make(self) -> bytes:
        together = Counted()
        for together in merging(self._slot.all(self._counted())):  # noqa: B007 - the last one is the whole
            await asyncio.sleep(0)
        lines = []
        for number, line in enumerate(lines_of(together)):
            lines.append(line)
            if not number % _LINES_AT_ONCE:
                await asyncio.sleep(0)
        return to_page(lines)

    def close(self) -> None:
        """Leave the counts behind, and no gauges."""
        try:
            self._slot.write(self._hub.metrics.counted())
        except OSError as error:
            log.warning("metrics.not_kept", error=str(error))
        self._slot.close()

    def _counted(self) -> Counted:
        counted = self._hub.metrics.counted()
        counted.running = self._hub.running()
        counted.waiting = self._hub.queues.waiting()
        counted.gauges = {
            "redoubt_spool_backlog_bytes": self._backlog_bytes(),
            "redoubt_snapshot_version": self._hub.snapshot_version,
        }
        return counted
