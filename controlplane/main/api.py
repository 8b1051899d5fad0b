"""The api process: admin listener, machine listener, and the beat that says it was listening."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from controlplane.api.app import Surroundings, make_admin_app, make_machine_app
from controlplane.domains.serving import service as serving
from controlplane.kit.loop import run_every
from controlplane.kit.tls import server_context
from controlplane.kit.tx import Database
from controlplane.main.process import config_path, run_process
from controlplane.main.settings import ApiSettings, Listen, read_settings
from controlplane.main.wiring import open_database
from controlplane.web.peer import PeerProtocol

BEAT_S = 1.0


async def serve(settings: ApiSettings) -> None:
    """Serve until cancelled, then finish what runs."""
    database = open_database(settings.database)
    token = settings.gateway_token_file.read_text().strip() if settings.gateway_token_file else None
    given = Surroundings(settings.site, database, settings.run_lease_s, token)
    servers = [_server(make_admin_app(given), settings.listen, machine=False)]
    if settings.machine is not None:
        servers.append(_server(make_machine_app(given), settings.machine, machine=True))
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    tasks.append(asyncio.create_task(run_every("beat", BEAT_S, lambda: _beat(database))))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for server in servers:
            server.should_exit = True
        tasks[-1].cancel()
        await asyncio.wait(tasks, timeout=15)
        await database.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: two servers share it."""
        yield


def _server(app: FastAPI, listen: Listen, *, machine: bool) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=listen.host,
        port=listen.port,
        http=PeerProtocol,
        loop="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    config.load()
    if listen.tls is not None:
        config.ssl = server_context(listen.tls.files, client_certificate=machine)
    return _Server(config)


async def _beat(database: Database) -> None:
    async with database.transaction() as tx:
        await serving.beat(tx, "api")


if __name__ == "__main__":
    run_process("api", serve(read_settings(ApiSettings, config_path("api"))))
