"""The metrics listener of the gateway: on loopback, one port for all workers of the node."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog

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

log = structlog.get_logger()

HOST = "127.0.0.1"
WRITE_S = 2.0
LISTEN_S = 10.0  # between two tries


@asynccontextmanager
async def metrics_of(hub: Hub, settings: GatewaySettings, spool: Spool) -> AsyncIterator[None]:
    """Go on with what this place counted before, and tell it while the gateway serves.

    Metrics are not the door: whatever keeps them from being told keeps no request from being served.
    """
    try:
        slot = take_slot(settings.state_dir)
    except (OSError, Unavailable) as error:
        log.error("metrics.not_counted", error=str(error))  # noqa: TRY400 - the cause is in the line
        yield
        return
    hub.metrics = Metrics(slot.before())
    node = NodeMetrics(hub, slot, lambda: spool.backlog_bytes)
    tasks = [asyncio.create_task(run_every("metrics", WRITE_S, node.step))]
    if settings.metrics_port:
        tasks.append(asyncio.create_task(_serve(settings.metrics_port, node)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        node.close()


async def _serve(port: int, node: NodeMetrics) -> None:
    """Listen, once the port is free."""
    while (line := _bound(port)) is None:  # noqa: ASYNC110 - another program frees a port without a word
        await asyncio.sleep(LISTEN_S)
    server = await asyncio.get_running_loop().create_server(partial(MetricsConnection, node.page), sock=line)
    async with server:
        await server.serve_forever()


def _bound(port: int) -> socket.socket | None:
    try:
        return bind(HOST, port)
    except OSError as error:
        remedy = "free the port or change metrics_port"
        log.warning("metrics.not_served", address=f"{HOST}:{port}", error=str(error), remedy=remedy)
        return None
