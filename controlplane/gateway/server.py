"""One gateway process: listen, keep the time limits, follow the snapshot, and leave without dropping an answer."""

import asyncio
import gc
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

import structlog

from controlplane.gateway.client_connection import ClientConnection
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits

log = structlog.get_logger()

_BACKLOG = 4096
_TLS_HANDSHAKE_S = 10.0


@dataclass(frozen=True)
class Listener:
    """`context` None serves plain HTTP, which settings allow on loopback alone."""

    line: socket.socket
    context: ssl.SSLContext | None


class Stop:
    """Asked for by a signal; what runs then has `drain_s` to end."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.asked = asyncio.Event()
        self.hurries = False

    @property
    def drain_s(self) -> float:
        return self._limits.drain_s if self.hurries else self._limits.relieved_s

    def now(self) -> None:
        self.hurries = True
        self.asked.set()

    def relieved(self) -> None:
        """Another worker has taken over: there is no hurry."""
        self.asked.set()


async def serve(
    hub: Hub,
    listener: Listener,
    loops: Sequence[Callable[[], Coroutine[None, None, None]]],
    stop: Stop,
    ready: Callable[[], None],
) -> None:
    """Serve until a stop is asked for, then finish what runs; `ready` is called when connections are taken."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: ClientConnection(hub),
        sock=listener.line,
        ssl=listener.context,
        backlog=_BACKLOG,
        ssl_handshake_timeout=_TLS_HANDSHAKE_S if listener.context else None,
    )
    background = [loop.create_task(_sweep(hub)), *(loop.create_task(each()) for each in loops)]
    gc.collect()
    gc.freeze()  # what start-up made lives for ever: no collection has to look at it again
    log.info("gateway.listening", address=listener.line.getsockname()[:2], tls=listener.context is not None)
    ready()
    await _first_of(stop.asked, background)
    server.close()
    await _drain(hub, stop)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    log.info("gateway.stopped")


async def _first_of(stop: asyncio.Event, background: list[asyncio.Task[None]]) -> None:
    """Wait for the stop; a background task that ends by itself is a bug and ends the process."""
    stopping = asyncio.get_running_loop().create_task(stop.wait())
    await asyncio.wait([stopping, *background], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in background:
        if task.done():
            task.result()


async def _sweep(hub: Hub) -> None:
    while True:
        await asyncio.sleep(hub.limits.sweep_s)
        hub.sweep()


async def _drain(hub: Hub, stop: Stop) -> None:
    """Answer what was asked. Where there is no hurry, connections that wait for a request keep waiting for one."""
    hub.draining = True
    loop = asyncio.get_running_loop()
    began_s, hurried = loop.time(), False
    while hub.connections and loop.time() < began_s + stop.drain_s:
        if stop.hurries and not hurried:
            hurried = True
            for connection in tuple(hub.connections):
                connection.finish_and_close()
        await asyncio.sleep(0.05)
    if hub.connections:
        log.warning("gateway.drain_ran_out", requests=len(hub.connections))
    for connection in tuple(hub.connections):
        connection.abort()
    hub.denials.settle(before_s=loop.time())


def stop_on_signals(limits: Limits, *, relieved: bool) -> Stop:
    """Return a stop that SIGTERM or SIGINT asks for, and SIGHUP where a worker can be `relieved` by another."""
    stop = Stop(limits)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.now)
    if relieved:
        loop.add_signal_handler(signal.SIGHUP, stop.relieved)
    return stop
