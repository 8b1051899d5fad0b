"""The metrics of a whole node, as any of its workers tells them: its own as of now, the others' as of a second ago."""

from collections.abc import Callable

import structlog

from controlplane.gateway.hub import Hub
from controlplane.gateway.meter.exposition import render
from controlplane.gateway.meter.metrics import Counted
from controlplane.gateway.meter.slots import Slot

log = structlog.get_logger()


class NodeMetrics:
    """`backlog_bytes` is what this worker has not shipped yet."""

    def __init__(self, hub: Hub, slot: Slot, backlog_bytes: Callable[[], int]) -> None:
        self._hub = hub
        self._slot = slot
        self._backlog_bytes = backlog_bytes

    async def step(self) -> None:
        """Let the other workers see what this one counted. Raises OSError."""
        self._slot.write(self._counted())

    def page(self) -> bytes:
        return render(self._slot.all(self._counted()))

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
