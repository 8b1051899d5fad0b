"""The metrics listener of the gateway: on loopback, one port for all workers of the node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from controlplane.gateway.hub import Hub
from controlplane.gateway.meter.listener import MetricsConnection
from controlplane.gateway.meter.metrics import Metrics
from controlplane.gateway.meter.node_metrics import NodeMetrics
from controlplane.gateway.meter.slots import take_slot
from controlplane.gateway.spool import Spool
from controlplane.gateway.workers import bind
from controlplane.kit.errors import Unavailable
from controlplane.kit.loop import run_every
from controlplane.main.settings import GatewaySettings

HOST = "127.0.0.1"
WRITE_S = 1.0


@asynccontextmanager
async def metrics_of(hub: Hub, settings: GatewaySettings, spool: Spool) -> AsyncIterator[None]:
    """Go on with what this place counted before, and tell it while the gateway serves."""
    slot = take_slot(settings.state_dir)
    hub.metrics = Metrics(slot.before())
    node = NodeMetrics(hub, slot, lambda: spool.backlog_bytes)
    server = await _listen(settings.metrics_port, node) if settings.metrics_port else None
    writing = asyncio.create_task(run_every("metrics", WRITE_S, node.step))
    try:
        yield
    finally:
        writing.cancel()
        if server is not None:
            server.close()
        node.close()


async def _listen(port: int, node: NodeMetrics) -> asyncio.Server:
    try:
        line = bind(HOST, port)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {HOST}:{port}: {error.strerror}", remedy="free the port or change metrics_port"
        ) from None
    return await asyncio.get_running_loop().create_server(partial(MetricsConnection, node.page), sock=line)
