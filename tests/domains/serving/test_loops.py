"""The convergence loops over a real database, with runners played by the test."""

import json
from datetime import timedelta
from typing import Any  # JSON of the API has no narrower type

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.serving.service import runs, snapshots
from tests.support.control_plane import ControlPlane, make_manifest
from tests.support.database import empty

TWO_NODES = {
    "nodes": [
        {"name": n, "address": a, "zone": "main", "purposes": [], "gpus": [{"type": "h100", "count": 2}]}
        for n, a in (("gpu1", "10.0.0.1"), ("gpu2", "10.0.0.2"))
    ]
}

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


class Site:
    """A control plane with two GPU nodes and one endpoint, and runners that do as told."""

    def __init__(self, plane: ControlPlane, client: httpx.AsyncClient) -> None:
        self.plane = plane
        self.client = client
        self.tokens: dict[str, str] = {}

    async def prepare(self) -> None:
        await self.client.put("/nodes", json=TWO_NODES)
        await self.hear()
        await self.client.post("/models", json=make_manifest().model_dump())
        await self.client.post("/endpoints", json={"name": "chat", "config": {"model": "tiny"}})

    async def hear(self, *silent: str) -> None:
        """Let agents and the api's beat be heard, but for `silent` nodes."""
        for node in {"gpu1", "gpu2"} - set(silent):
            await self.plane.report(node)

    async def pass_time(self, seconds: int, *silent: str) -> None:
        """Let time pass second by second, with the beat and the agents going on."""
        for _ in range(seconds):
            self.plane.clock.move(1)
            async with self.plane.database.transaction() as tx:
                await runs.beat(tx, "api")
        await self.hear(*silent)

    async def endpoint(self) -> dict[str, object]:
        return dict((await self.client.get("/endpoints/chat")).json())

    async def states(self) -> list[str]:
        replicas = (await self.endpoint())["replicas"]
        assert isinstance(replicas, list)
        return [replica["state"] for replica in replicas]

    async def register(self, order: int = -1, node: str = "gpu1", gpu: int = 0) -> httpx.Response:
        spec = json.loads(self.plane.engine.orders[order].environment["REDOUBT_RUN_SPEC"])
        ask = {
            "replica_id": spec["replica_id"], "nonce": spec["nonce"], "job_id": "1", "node": node, "host": "10.0.0.1",
            "port": 20000, "certificate_pem": CERTIFICATE, "gpu_uuids": [f"GPU-{node}-{gpu}"],
        }  # fmt: skip
        answer = await self.client.post("/runs", json=ask)
        if answer.is_success:
            self.tokens[spec["replica_id"]] = answer.json()["run_token"]
        return answer

    async def renew(self, phase: str = "ready", order: int = -1) -> dict[str, bool]:
        answer = await self.renew_whole(phase, order)
        return {"keep": answer["keep"], "drain": answer["drain"]}

    async def renew_whole(self, phase: str = "ready", order: int = -1) -> dict[str, Any]:
        replica = self.plane.engine.orders[order].name
        headers = {"Authorization": f"Bearer {self.tokens[replica]}"}
        answer = await self.client.post(f"/runs/{replica}/lease", json={"phase": phase}, headers=headers)
        return dict(answer.json())


@pytest.fixture
async def site(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        made = Site(plane, client)
        await made.prepare()
        yield made


async def test_an_endpoint_becomes_ready_when_its_run_says_so(site: Site) -> None:
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    assert await site.states() == ["ready"]


async def test_a_nonce_registers_once(site: Site) -> None:
    await site.plane.loops.converge()
    assert (await site.register()).status_code == 201
    assert (await site.register()).status_code == 401


async def test_two_runs_never_hold_one_gpu(site: Site) -> None:
    await site.client.patch("/endpoints/chat", json={"replicas": 2})
    await site.plane.loops.converge()
    assert (await site.register(order=0)).status_code == 201
    assert (await site.register(order=1)).status_code == 409


async def test_a_lost_replica_is_replaced_and_may_never_come_back(site: Site) -> None:
    await site.pass_time(20)
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    await site.pass_time(11, "gpu1")
    await site.plane.loops.converge()
    await site.plane.loops.converge()
    assert await site.states() == ["lost", "starting"]
    assert site.plane.engine.orders[-1].avoid_nodes == ("gpu1",)
    assert await site.renew("ready", order=0) == {"keep": False, "drain": False}


async def test_nobody_is_declared_lost_while_the_api_could_not_hear(site: Site) -> None:
    await site.pass_time(20)
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    site.plane.clock.move(120)  # the api was away: no beat, so no renewal could come in
    await site.hear()
    await site.plane.loops.converge()
    assert await site.states() == ["ready"]
    await site.pass_time(5)
    await site.plane.loops.converge()
    assert await site.states() == ["ready"]
    assert (await site.renew("ready"))["keep"]


async def test_an_engine_that_is_away_changes_nothing(site: Site) -> None:
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    site.plane.engine.away = True
    with pytest.raises(Exception, match="away"):
        await site.plane.loops.converge()
    assert await site.states() == ["ready"]


async def test_a_run_that_ended_by_itself_is_replaced_after_a_pause(site: Site) -> None:
    await site.plane.loops.converge()
    await site.register()
    site.plane.engine.end(site.plane.engine.orders[0].name)
    await site.plane.loops.converge()
    assert await site.states() == ["failed"]
    await site.pass_time(3)
    await site.plane.loops.converge()
    assert await site.states() == ["failed", "starting"]


async def test_scaling_down_drains_and_then_frees_the_gpu(site: Site) -> None:
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    await site.client.patch("/endpoints/chat", json={"replicas": 0})
    await site.plane.loops.converge()
    assert await site.renew("ready") == {"keep": True, "drain": True}
    site.plane.engine.end(site.plane.engine.orders[0].name)
    await site.plane.loops.converge()
    assert await site.states() == ["ended"]
    leases = (await site.client.get("/leases")).json()["items"]
    assert all(lease["ended_at"] for lease in leases)


async def test_a_run_that_no_replica_needs_is_stopped_and_a_strangers_is_not(site: Site) -> None:
    await site.plane.loops.converge()
    own = site.plane.engine.orders[0].name
    site.plane.engine.runs["somebody-elses-job"] = site.plane.engine.runs[own]
    await site.client.delete("/endpoints/chat")
    await site.plane.loops.converge()
    assert site.plane.engine.stopped == [own]


async def test_an_endpoint_waits_with_reasons_when_all_gpus_are_leased(site: Site) -> None:
    await site.client.patch("/endpoints/chat", json={"replicas": 5})
    await site.plane.loops.converge()
    found = await site.endpoint()
    assert (await site.states()).count("wanted") == 1
    assert "gpu1, gpu2: 0 of 2 free, 1 asked" in str(found["wait_reason"])


async def test_the_snapshot_lists_what_serves_and_is_signed_anew_only_when_that_changes(site: Site) -> None:
    key = Ed25519PrivateKey.generate()

    async def publish() -> bool:
        async with site.plane.database.transaction() as tx:
            return await snapshots.publish_snapshot(tx, SYSTEM, site="testsite", key=key, lifetime=timedelta(hours=12))

    assert [await publish(), await publish()] == [True, False]
    await site.plane.loops.converge()
    await site.register()
    await site.renew("ready")
    assert await publish()
    async with site.plane.machine("service", "gateway") as client:
        payload = json.loads((await client.get("/gateway/snapshot")).json()["payload"])
        assert (await client.get(f"/gateway/snapshot?after={payload['version']}")).status_code == 204
    assert [(e["name"], len(e["replicas"])) for e in payload["endpoints"]] == [("chat", 1)]


FAULTS = [
    "converge",
    "register",
    "ready",
    "fail",
    "engine_ends",
    "engine_away",
    "engine_back",
    "time",
    "silence",
    "scale0",
    "scale2",
]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from(FAULTS), min_size=5, max_size=25))
@example(faults=["converge", "register", "fail"])  # a run that says it failed kept its lease
async def test_no_sequence_of_faults_leaks_a_lease_or_a_run(
    plane: ControlPlane, database_url: str, faults: list[str]
) -> None:
    await empty(database_url)
    await plane.seal()
    plane.engine.__init__()  # type: ignore[misc]  # made anew in place: the plane holds it
    async with plane.client(await plane.administrator()) as client:
        site = Site(plane, client)
        await site.prepare()
        for fault in faults:
            await _do(site, fault)
        await _heal(site)
        live = [lease for lease in (await client.get("/leases")).json()["items"] if not lease["ended_at"]]
        running = [name for name, run in plane.engine.runs.items() if run.state != "ended"]
        assert sorted(lease["owner"] for lease in live) == sorted(running) == []


async def _do(site: Site, fault: str) -> None:
    engine = site.plane.engine
    match fault:
        case "converge":
            await _converge(site)
        case "register" if engine.orders:
            await site.register(gpu=len(engine.orders) % 2)
        case "ready" | "fail" if engine.orders and engine.orders[-1].name in site.tokens:
            await site.renew("ready" if fault == "ready" else "failed")
        case "engine_ends" if engine.orders:
            engine.end(engine.orders[-1].name)
        case "engine_away" | "engine_back":
            engine.away = fault == "engine_away"
        case "time":
            await site.pass_time(12)
        case "silence":
            await site.pass_time(16, "gpu1")
        case "scale0" | "scale2":
            await site.client.patch("/endpoints/chat", json={"replicas": int(fault[-1])})


async def _converge(site: Site) -> None:
    try:
        await site.plane.loops.converge()
    except Exception as error:
        if "away" not in str(error):
            raise


async def _heal(site: Site) -> None:
    """End the endpoint on a healthy site and let everything settle."""
    site.plane.engine.away = False
    await site.client.delete("/endpoints/chat")
    for _ in range(4):
        await site.pass_time(30)
        await site.plane.loops.converge()
