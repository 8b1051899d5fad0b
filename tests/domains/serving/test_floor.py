"""Endpoints of a project with a floor: what is above it gives way, what is within it never does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.serving.rules import is_above_floor, lease_ends_at, plan_replicas
from controlplane.domains.serving.types import ReplicaFact, ReplicaState
from controlplane.domains.shares.types import Pool
from controlplane.engines.port import EngineState
from tests.domains.serving.test_loops import Site
from tests.support.control_plane import ControlPlane

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = 3600


@pytest.fixture
async def site(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        made = Site(plane, client)
        await made.prepare()
        yield made


def ready(name: str, *, yields: bool = False, age_h: float = 0, limit_h: float = 168) -> ReplicaFact:
    since = NOW - timedelta(hours=age_h)
    return ReplicaFact(name, "new", ReplicaState.READY, None, since, yields=yields, time_limit_s=int(limit_h * HOUR))


def test_replicas_are_within_the_floor_until_it_is_full() -> None:
    wanted = ReplicaFact("c", "new", ReplicaState.WANTED, None)
    held = [ready("a"), ready("b", yields=True), wanted]

    assert [is_above_floor(floor, "new", held, NOW) for floor in (None, 0, 1, 2)] == [False, True, True, False]


def test_a_higher_floor_replaces_a_replica_above_it_once_another_is_ready() -> None:
    firm, above = ready("a"), ready("b", yields=True)

    first = plan_replicas(2, "new", [firm, above], NOW, 2)
    later = plan_replicas(2, "new", [firm, above, ready("c")], NOW, 2)

    assert (first.add, first.drain) == (1, ())
    assert (later.add, later.drain) == (0, ("b",))


def test_of_too_many_those_above_the_floor_go_first() -> None:
    assert plan_replicas(1, "new", [ready("a"), ready("b", yields=True)], NOW, 1).drain == ("b",)


def test_a_replica_is_renewed_before_its_own_limit_and_not_all_at_once() -> None:
    def is_renewed(name: str, age_h: float, limit_h: float) -> bool:
        return plan_replicas(1, "new", [ready(name, age_h=age_h, limit_h=limit_h)], NOW).add == 1

    names = [f"replica_{number}" for number in range(50)]

    assert not any(is_renewed(name, 7.8, 10) for name in names)
    assert all(is_renewed(name, 8.6, 10) for name in names)
    assert {is_renewed(name, 8.2, 10) for name in names} == {True, False}


def test_a_lease_outlives_the_longest_that_its_run_may_take() -> None:
    assert lease_ends_at(NOW, HOUR, waits=False) > NOW + timedelta(hours=1)
    assert lease_ends_at(NOW, HOUR, waits=True) > lease_ends_at(NOW, HOUR, waits=False)


async def test_what_is_above_the_floor_runs_as_work_that_may_be_preempted(site: Site) -> None:
    await site.client.patch("/endpoints/chat", json={"replicas": 3, "floor": 1})
    await site.plane.loops.converge()

    orders = site.plane.engine.orders
    assert sorted(order.qos for order in orders) == ["inference", "inference-over", "inference-over"]
    assert {(order.account, order.partition) for order in orders} == {("redoubt", "inference")}


async def test_a_floor_beyond_the_guarantee_waits_and_says_what_to_do(site: Site) -> None:
    for ask in ({"kind": "organisation", "name": "acme"}, {"kind": "project", "name": "blue", "parent": "acme"}):
        await site.client.post("/shares", json=ask)
    config = {"model": "tiny"}

    refused = await site.client.post("/endpoints", json={"name": "own", "project": "blue", "config": config})
    await site.client.put("/shares/blue/quotas/h100", json={"guaranteed": 0, "most": 1})
    made = await site.client.post("/endpoints", json={"name": "own", "project": "blue", "config": config})
    await site.plane.loops.converge()
    waiting = (await site.client.get("/endpoints/own")).json()["wait_reason"]
    await site.client.patch("/endpoints/own", json={"floor": 0})
    await site.plane.loops.converge()

    assert (refused.status_code, refused.json()["code"]) == (409, "no_quota")
    assert made.status_code == 201
    assert "the floor of own is beyond what blue is guaranteed" in waiting
    assert [order.qos for order in site.plane.engine.orders if order.account == "blue"] == ["inference-over"]


async def test_an_endpoint_takes_the_place_of_training_through_the_engine(site: Site) -> None:
    for node in ("gpu1", "gpu2"):
        async with site.plane.database.transaction() as tx:
            await allocation.begin_lease(
                tx, SYSTEM, owner=f"job_{node}", share="redoubt", pool=Pool.TRAINING, over_quota=False,
                preemptible=True, gpu_uuids=[f"GPU-{node}-0", f"GPU-{node}-1"], node=node, expires_at=None,
            )  # fmt: skip
    await site.plane.loops.converge()

    assert (await site.register(node="gpu1")).status_code == 201

    leases = {row["owner"]: row for row in (await site.client.get("/leases")).json()["items"]}
    assert leases["job_gpu1"]["end_reason"].startswith("preempted by replica_")
    assert leases["job_gpu2"]["ended_at"] is None


async def test_a_reservation_ends_a_replica_in_time_and_another_is_ready_before(site: Site) -> None:
    begins = site.plane.clock.now() + timedelta(hours=5)
    for number, node in enumerate(("gpu1", "gpu2")):
        ask = {
            "name": f"r{number}", "kind": "maintenance", "nodes": [node], "starts_at": begins.isoformat(),
            "ends_at": (begins + timedelta(hours=1)).isoformat(),
        }  # fmt: skip
        assert (await site.client.post("/reservations", json=ask)).status_code == 201

    await site.plane.loops.converge()

    assert 5 * HOUR - 360 < site.plane.engine.orders[0].time_limit_s <= 5 * HOUR - 300


async def test_a_run_that_made_room_for_another_is_no_failure_of_its_revision(site: Site) -> None:
    await site.plane.loops.converge()
    first = site.plane.engine.orders[0].name
    site.plane.engine.runs[first] = replace(
        site.plane.engine.runs[first], state=EngineState.ENDED, reason="preempted, ended with status 0"
    )
    await site.plane.loops.converge()
    await site.plane.loops.converge()

    assert await site.states() == ["ended", "starting"]


async def test_a_run_cut_short_before_a_reservation_starts_over_when_it_waits_too_long(site: Site) -> None:
    begins = site.plane.clock.now() + timedelta(hours=5)
    for number, node in enumerate(("gpu1", "gpu2")):
        ask = {
            "name": f"r{number}", "kind": "maintenance", "nodes": [node], "starts_at": begins.isoformat(),
            "ends_at": (begins + timedelta(hours=1)).isoformat(),
        }  # fmt: skip
        await site.client.post("/reservations", json=ask)
    site.plane.engine.devices = {"gpu1": 0, "gpu2": 0}  # somebody who is not ours has them
    await site.plane.loops.plan()
    await site.plane.loops.start()
    name = site.plane.engine.orders[0].name

    states = []
    for _ in range(2):
        await site.pass_time(130)
        await site.plane.loops.settle()
        states.append(await site.states())

    assert states == [["starting"], ["ended"]]
    assert site.plane.engine.stopped == [name]


def test_a_replica_leaves_its_node_before_maintenance() -> None:
    old = replace(ready("a", age_h=100), started_at=NOW - timedelta(hours=100))

    def adds(hours: float) -> int:
        return plan_replicas(1, "new", [replace(old, closes_at=NOW + timedelta(hours=hours))], NOW).add

    assert (adds(90), adds(2)) == (0, 1)


@pytest.mark.parametrize("project", ["nobody", "site"])
async def test_an_endpoint_of_no_project_is_refused(site: Site, project: str) -> None:
    answer = await site.client.post("/endpoints", json={"name": "own", "project": project, "config": {"model": "tiny"}})

    assert answer.status_code == 404
