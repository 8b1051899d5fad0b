"""The api process: admin listener, machine listener, and the beat that says it was listening."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from controlplane.api.app import LOOPBACK, Surroundings, make_admin_app, make_machine_app
from controlplane.api.snapshot_watch import WATCH_S, SnapshotWatch
from controlplane.console.app import add_console
from controlplane.domains.factors.rules.passkeys import host_of
from controlplane.domains.pki.service import Authority
from controlplane.domains.pki.types import LeafTerms
from controlplane.domains.serving.service import runs
from controlplane.kit.certificates import host_names
from controlplane.kit.clock import SystemClock
from controlplane.kit.issuing import Issuer, Usage
from controlplane.kit.loop import run_every
from controlplane.kit.tx import Database
from controlplane.main.leaves import Leaves
from controlplane.main.machine_link import TAKE_UP_S
from controlplane.main.oauth_keys import KEEP_EVERY_S, keep_keys, make_issuer
from controlplane.main.own_leaves import OwnLeaves, OwnPair
from controlplane.main.process import config_path, run_process
from controlplane.main.record import start_recorder
from controlplane.main.settings import ApiSettings, Listen, read_settings
from controlplane.main.wiring import open_database, open_means
from controlplane.web.denials import DenialCounter, record_counts
from controlplane.web.peer import PeerProtocol

BEAT_S = 1.0
OWN_LEAVES_S = 5.0
MOST_CONNECTIONS = 4096


async def serve(settings: ApiSettings) -> None:
    """Serve until cancelled, then finish what runs."""
    authority, leaves = _authority(settings), Leaves()
    own = None if authority is None else _own_leaves(settings, authority)
    if own is not None:
        own.renew_due()  # before anything is read: what ended while all was off would let nobody in and us nowhere
    database = open_database(settings.database, leaves)
    means = open_means(settings, leaves)
    recorder = await start_recorder(settings.audit, "api", database, means.aside)
    token = settings.gateway_token_file.read_text().strip() if settings.gateway_token_file else None
    issuer = make_issuer(settings.origin, settings.oauth)
    watch = SnapshotWatch(database)
    given = Surroundings(
        settings.site,
        database,
        settings.run_lease_s,
        token,
        means,
        names=names_of(settings),
        describes_itself=settings.describes_itself,
        authority=authority,
        issuer=issuer,
        snapshot_watch=watch,
        project_slots=settings.project_slots,
    )
    apps = [make_admin_app(given)]
    add_console(apps[0])
    servers = [make_server(apps[0], settings.listen, leaves, machine=False)]
    if settings.machine is not None:
        apps.append(make_machine_app(given))
        servers.append(make_server(apps[1], settings.machine, leaves, machine=True))
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    if issuer is not None:
        keep = partial(keep_keys, database, issuer.keys)
        tasks.append(asyncio.create_task(run_every("oauth.keys", KEEP_EVERY_S, keep)))
    tasks.append(asyncio.create_task(run_every("certificates", TAKE_UP_S, leaves.take_up)))
    if own is not None:
        tasks.append(
            asyncio.create_task(run_every("own_certificates", OWN_LEAVES_S, partial(_renew_own, own, database)))
        )
    tasks.append(asyncio.create_task(run_every("snapshots", WATCH_S, watch.step)))
    counters: list[DenialCounter] = [app.state.denials for app in apps]
    tasks.append(asyncio.create_task(run_every("beat", BEAT_S, lambda: _beat(database, counters))))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for server in servers:
            server.should_exit = True
        for loop in tasks[len(servers) :]:
            loop.cancel()
        await asyncio.wait(tasks, timeout=15)
        for counter in counters:
            await record_counts(database, counter.settle())
        await recorder.close()
        await database.close()
        await means.aside.close()


def _authority(settings: ApiSettings) -> Authority | None:
    asked = settings.issuing
    if asked is None:
        return None
    terms = LeafTerms(asked.leaf_minutes * 60, asked.grace_days * 86400, asked.joins_need_approval)
    return Authority(settings.site, Issuer.load(asked.key, asked.certificate), terms)


def _own_leaves(settings: ApiSettings, authority: Authority) -> OwnLeaves:
    listens = [listen.tls for listen in (settings.listen, settings.machine) if listen is not None]
    pairs = {tls.certificate: OwnPair(tls.files, Usage.SERVER) for tls in listens if tls is not None}
    if settings.database.tls is not None:
        pairs[settings.database.tls.certificate] = OwnPair(settings.database.tls.files, Usage.CLIENT)
    return OwnLeaves(authority, tuple(pairs.values()), SystemClock())


async def _renew_own(own: OwnLeaves, database: Database) -> None:
    own.renew_due()
    await own.record(database)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process: two servers share it."""
        yield


def make_server(app: FastAPI, listen: Listen, leaves: Leaves, *, machine: bool) -> uvicorn.Server:
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
        proxy_headers=False,  # or whoever connects from this node says where from
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=10,
    )
    config.load()
    if listen.tls is not None:
        config.ssl = leaves.serving(listen.tls, machine=machine)
    return _Server(config)


async def _beat(database: Database, counters: list[DenialCounter]) -> None:
    async with database.transaction() as tx:
        await runs.beat(tx, "api")
    for counter in counters:
        await record_counts(database, counter.settle(database.now()))


def names_of(settings: ApiSettings) -> frozenset[str]:
    """Return the hosts that the api answers to: what its certificates say, where it listens, what the site adds."""
    listens = [listen for listen in (settings.listen, settings.machine) if listen is not None]
    names = {*settings.names, *LOOPBACK, host_of(settings.origin), *(listen.host for listen in listens)}
    for listen in listens:
        if listen.tls is not None:
            names.update(host_names(listen.tls.certificate.read_bytes()))
    return frozenset(name.lower() for name in names)


if __name__ == "__main__":
    run_process("api", serve(read_settings(ApiSettings, config_path("api"))))
