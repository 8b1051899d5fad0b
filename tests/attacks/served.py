"""Both applications on real loopback sockets, served by a thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvicorn

from controlplane.web.peer import PeerProtocol
from tests.support.control_plane import ControlPlane, make_control_plane

Result = TypeVar("Result")


class _Loop:
    """A thread that runs one event loop until told to stop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], timeout_s: float = 60) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@dataclass(frozen=True)
class Served:
    plane: ControlPlane
    urls: dict[str, str]
    loop: _Loop

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run(work)


@contextmanager
def serving(database_url: str) -> Iterator[Served]:
    """Serve a control plane: `admin` as it is, `machine` as to the holder of gpu1's certificate, or of none."""
    loop = _Loop()

    async def made() -> ControlPlane:
        return make_control_plane(database_url, names=frozenset({"127.0.0.1"}))

    plane = loop.run(made())
    apps = {"admin": plane.admin_app, "machine": plane.machine_app, "node": plane.as_machine("node", "gpu1")}
    apps["gateway"] = plane.as_machine("service", "gateway")
    servers = {name: loop.run(_start(app)) for name, app in apps.items()}
    try:
        yield Served(plane, {name: _url(server) for name, server in servers.items()}, loop)
    finally:
        for server in servers.values():
            loop.run(server.shutdown())
        loop.run(plane.database.close())
        loop.run(plane.means.aside.close())
        loop.end()


async def _start(app: Any) -> uvicorn.Server:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http=PeerProtocol, loop="none", lifespan="off", log_config=None, ws="none"
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    return server


def _url(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
