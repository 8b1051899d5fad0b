"""What runs on a node that was revoked: nobody hears it any more, and nothing new is placed there."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.serving.service import snapshots
from tests.domains.serving.test_loops import Site
from tests.support.control_plane import ControlPlane


@pytest.fixture
async def site(plane: ControlPlane, admin: str) -> AsyncIterator[Site]:
    """Give a site with one ready replica on gpu1."""
    async with plane.client(admin) as client:
        made = Site(plane, client)
        await made.prepare()
        await plane.loops.converge()
        await made.register()
        await made.renew("ready")
        yield made


async def revoke(site: Site, node: str) -> None:
    answer = await site.client.post(f"/nodes/{node}/revocations", json={"reason": "stolen disk"})
    assert answer.status_code == 201, answer.text


async def listed(site: Site) -> list[str]:
    """Return the replicas that gateways may ask."""
    async with site.plane.database.transaction() as tx:
        key = Ed25519PrivateKey.generate()
        await snapshots.publish_snapshot(tx, SYSTEM, site="testsite", key=key, lifetime=timedelta(hours=12))
    async with site.plane.machine("service", "gateway") as client:
        payload = json.loads((await client.get("/gateway/snapshot")).json()["payload"])
    return [replica["replica_id"] for endpoint in payload["endpoints"] for replica in endpoint["replicas"]]


async def test_gateways_are_told_at_once_and_the_run_is_fenced(site: Site) -> None:
    assert len(await listed(site)) == 1

    await revoke(site, "gpu1")

    assert await listed(site) == []
    assert (await site.renew())["keep"] is False


async def test_runs_elsewhere_are_told_whom_to_refuse_and_serve_on(site: Site) -> None:
    await revoke(site, "host1")

    answer = await site.renew_whole()

    assert answer["keep"] is True
    assert answer["refused"] == [{"machine": "host1", "before": None}]


async def test_nothing_new_is_placed_or_registers_there(site: Site) -> None:
    await revoke(site, "gpu1")
    await site.client.patch("/endpoints/chat", json={"replicas": 2})
    await site.plane.loops.converge()

    assert "gpu1" in site.plane.engine.orders[-1].avoid_nodes
    assert (await site.register(gpu=1)).status_code == 403
