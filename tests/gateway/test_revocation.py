"""A key that is revoked is refused by every gateway within a second: books, signature, wait, fetch, and the door."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.api.snapshot_watch import WATCH_S, SnapshotWatch
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.keys import service as keys
from controlplane.domains.keys.types import Bounds
from controlplane.domains.serving.service import snapshots
from controlplane.gateway.errors import NoSnapshot, WrongKey
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits
from controlplane.gateway.snapshot import SnapshotFile, SnapshotFollower
from controlplane.kit.loop import run_every
from controlplane.main.reconciler import PUBLISH_S
from controlplane.main.settings import GatewaySettings
from tests.support.control_plane import SITE, ControlPlane
from tests.support.journals import MemoryJournal

ADMIN = Actor("user_ada", Role.PLATFORM_ADMIN)
OPEN = Bounds(project="", endpoints=(), zones=(), purposes=("general",), classification=1, sources=())
POLL_S = GatewaySettings.model_fields["poll_s"].default
GATEWAYS = 3
TIMES = 10


@asynccontextmanager
async def running(plane: ControlPlane, folder: Path) -> AsyncIterator[list[Hub]]:
    """Publish, watch and follow at the product's own pace, with several gateways."""
    signer, watch = Ed25519PrivateKey.generate(), SnapshotWatch(plane.database)
    plane.machine_app.state.snapshot_watch = watch

    async def publish() -> None:
        async with plane.database.transaction() as tx:
            await snapshots.publish_snapshot(tx, SYSTEM, site=SITE, key=signer, lifetime=timedelta(hours=1))

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(run_every("publish", PUBLISH_S, publish)),
            group.create_task(run_every("snapshots", WATCH_S, watch.step)),
        ]
        hubs = []
        for number in range(GATEWAYS):
            hub, follower = _gateway(plane, signer, folder / str(number), _http(plane))
            hubs.append(hub)
            tasks.append(group.create_task(run_every("snapshot", POLL_S, follower.poll)))
        yield hubs
        for task in tasks:
            task.cancel()


def _http(plane: ControlPlane) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(plane.as_machine("service", "gateway"))
    return httpx.AsyncClient(transport=transport, base_url="http://api", trust_env=False)


def _gateway(
    plane: ControlPlane, signer: Ed25519PrivateKey, folder: Path, http: httpx.AsyncClient
) -> tuple[Hub, SnapshotFollower]:
    hub = Hub(limits=Limits(), clock=plane.clock, context_for=lambda _: None, journal=MemoryJournal())
    follower = SnapshotFollower(
        http=http, file=SnapshotFile(folder), key=signer.public_key(), site=SITE, bearer=lambda: None, adopt=hub.adopt
    )
    return hub, follower


def lets_in(hub: Hub, secret: str) -> bool:
    now = hub.clock.now()
    try:
        hub.directory(now).admit(b"Bearer " + secret.encode(), "10.0.0.1", now)
    except (WrongKey, NoSnapshot):
        return False
    return True


async def until(condition: partial[bool]) -> float:
    """Return how many seconds it took to come true."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a gateway tells nobody that it took a snapshot
            await asyncio.sleep(0.002)
    return time.monotonic() - began


async def make_keys(plane: ControlPlane, many: int) -> list[keys.NewSecret]:
    async with plane.database.transaction() as tx:
        return [
            await keys.create_key(tx, ADMIN, name="app", bounds=OPEN, lifetime=timedelta(days=1)) for _ in range(many)
        ]


async def test_a_revoked_key_is_let_in_by_no_gateway_any_more(plane: ControlPlane, tmp_path: Path, record_property):
    made = await make_keys(plane, TIMES)
    took = []
    async with running(plane, tmp_path) as hubs:
        await until(partial(lambda: all(lets_in(hub, made[-1].secret) for hub in hubs)))
        for key in made:
            async with plane.database.transaction() as tx:
                await keys.revoke_key(tx, ADMIN, key_id=key.key.id)
            gone = partial(lambda secret: not any(lets_in(hub, secret) for hub in hubs), key.secret)
            took.append(await until(gone))
        assert not any(lets_in(hub, key.secret) for hub in hubs for key in made)
    record_property("seconds", sorted(took))
    print("seconds to the last gateway:", [round(seconds, 3) for seconds in sorted(took)])


def test_the_waits_on_the_way_of_a_revocation_leave_half_a_second_for_the_work():
    assert PUBLISH_S + WATCH_S + POLL_S <= 0.5
