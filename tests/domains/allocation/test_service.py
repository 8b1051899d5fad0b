"""Leases over a real database."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.tables import Lease
from controlplane.domains.allocation.types import Admission, Ask
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet import service as fleet
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Pool, Quota, ShareKind, Window
from controlplane.kit.errors import Conflict, Refused
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx
from tests.support.control_plane import ControlPlane

ADA = Actor("ada", Role.PLATFORM_ADMIN, frozenset({Role.PLATFORM_ADMIN, Role.OPERATOR}))
NODES = {
    "nodes": [
        {
            "name": name,
            "address": f"203.0.113.{i}",
            "zone": "north",
            "purposes": [],
            "gpus": [{"type": kind, "count": 2}],
        }
        for i, (name, kind) in enumerate((("gpu1", "h100"), ("gpu2", "a100")), start=11)
    ]
}
Do = Callable[[Callable[[Tx], Awaitable[Any]]], Awaitable[Any]]


@pytest.fixture
async def do(plane: ControlPlane, admin: str) -> Do:
    """Give a site of two nodes and project blue, which may use two h100, one of them for sure."""

    async def in_one(verb: Callable[[Tx], Awaitable[Any]]) -> Any:
        async with plane.database.transaction() as tx:
            return await verb(tx)

    async with plane.client(admin) as client:
        assert (await client.put("/nodes", json=NODES)).is_success
    await plane.report("gpu1")
    await plane.report("gpu2", name="NVIDIA A100-SXM4-80GB")
    await in_one(lambda tx: _share(tx, ShareKind.ORGANISATION, "acme", ""))
    await in_one(lambda tx: _share(tx, ShareKind.PROJECT, "blue", "acme"))
    await in_one(lambda tx: shares.set_quota(tx, ADA, quota=Quota("blue", "h100", 1, 2)))
    return in_one


async def _share(tx: Tx, kind: ShareKind, name: str, parent: str) -> None:
    await shares.create_share(tx, ADA, kind=kind, name=name, parent=parent, weight=1, slots=9)


def admit(count: int = 1, share: str = "blue", pool: Pool = Pool.TRAINING, kind: str = "h100", **how: bool):
    return lambda tx: allocation.admit(tx, share=share, pool=pool, ask=Ask(count, kind, 0), **how)


def begin(owner: str, *gpus: int, over: bool = False, share: str = "blue", **how: Any):
    uuids = [f"GPU-gpu1-{i}" for i in gpus]
    given: dict[str, Any] = {"pool": Pool.TRAINING, "preemptible": True, "expires_at": None, "node": "gpu1"} | how
    return lambda tx: allocation.begin_lease(
        tx, SYSTEM, owner=owner, share=share, over_quota=over, gpu_uuids=uuids, **given
    )


async def grant(tx: Tx, owner: str, count: int = 1) -> Lease:
    ask = Ask(count, "h100", 0)
    let_in = await allocation.admit(tx, share="redoubt", pool=Pool.INFERENCE, ask=ask)
    return await allocation.grant_lease(tx, SYSTEM, owner=owner, ask=ask, admission=let_in, expires_at=None)


async def live(tx: Tx) -> list[str]:
    return [row.owner for row in await tx.session.scalars(select(Lease).where(Lease.ended_at.is_(None)))]


async def test_the_first_gpus_are_within_the_guarantee_and_further_ones_may_be_preempted(do: Do):
    first: Admission = await do(admit())
    await do(begin("job_1", 0))
    second: Admission = await do(admit())

    assert (first.qos, first.account, first.partition, first.user) == ("training", "blue", "training", "redoubt-p01")
    assert (second.qos, second.over_quota, second.preemptible) == ("training-over", True, True)


async def test_a_limit_refuses_with_figures_and_what_waits_in_the_queue_is_let_in(do: Do):
    await do(begin("job_1", 0, 1))

    with pytest.raises(Refused, match="cannot be had") as refused:
        await do(admit())
    waiting: Admission = await do(admit(waits=True))
    with pytest.raises(Refused) as never:
        await do(admit(3, waits=True))

    assert refused.value.code == "over_quota"
    assert "blue uses 2 of at most 2 h100, 1 asked" in " ".join(refused.value.reasons)
    assert waiting.qos == "training-over"
    assert waiting.avoid_nodes == ("gpu2",)
    assert never.value.code == "no_fit"  # no node has three


async def test_a_type_without_a_quota_is_refused_with_the_command_that_gives_one(do: Do):
    with pytest.raises(Refused) as refused:
        await do(admit(kind="a100"))

    assert refused.value.code == "no_quota"
    assert "redoubt quota set blue a100" in refused.value.remedy


async def test_what_the_engine_preempted_for_a_run_loses_its_lease_in_the_same_step(do: Do):
    await do(begin("job_1", 0, 1))
    await do(lambda tx: grant(tx, "replica_1"))

    await do(lambda tx: allocation.bind_gpus(tx, owner="replica_1", node="gpu1", gpu_uuids=["GPU-gpu1-0"]))

    rows = {row.owner: row for row in await do(lambda tx: allocation.list_leases(tx, ADA, page=Page(50, None)))}
    assert rows["job_1"].end_reason == "preempted by replica_1"
    assert rows["replica_1"].ended_at is None


async def test_a_gpu_of_a_run_that_nobody_may_preempt_conflicts(do: Do):
    await do(begin("job_1", 0, preemptible=False))
    await do(lambda tx: grant(tx, "replica_1"))

    with pytest.raises(Conflict, match="leased already to job_1"):
        await do(lambda tx: allocation.bind_gpus(tx, owner="replica_1", node="gpu1", gpu_uuids=["GPU-gpu1-0"]))

    assert sorted(await do(live)) == ["job_1", "replica_1"]


async def test_a_cordoned_gpu_conflicts_and_is_offered_to_nobody(do: Do):
    await do(lambda tx: fleet.cordon_gpu(tx, ADA, uuid="GPU-gpu1-0", reason="Xid 79"))

    with pytest.raises(Conflict, match="cordoned: Xid 79"):
        await do(begin("job_1", 0))
    with pytest.raises(Refused) as refused:
        await do(admit(2, share="redoubt"))

    assert "1 of 2 GPUs are sound, 2 asked (is cordoned by ada: Xid 79)" in " ".join(refused.value.reasons)
    assert any("is back" in reason for reason in refused.value.reasons)


async def test_gpus_of_another_type_than_was_granted_conflict(do: Do):
    await do(lambda tx: grant(tx, "replica_1"))

    with pytest.raises(Conflict, match="was granted h100 and got a100"):
        await do(lambda tx: allocation.bind_gpus(tx, owner="replica_1", node="gpu2", gpu_uuids=["GPU-gpu2-0"]))


async def test_several_grants_of_one_transaction_see_each_other(do: Do):
    async def three(tx: Tx) -> None:
        for number in range(3):
            await grant(tx, f"replica_{number}")

    with pytest.raises(Refused, match="cannot be had"):
        await do(three)

    assert await do(live) == []


async def test_the_same_beginning_again_changes_nothing_and_another_ends_the_first(do: Do):
    first = await do(begin("job_1", 0))
    same = await do(begin("job_1", 0))
    other = await do(begin("job_1", 1))

    assert first.id == same.id != other.id
    assert await do(live) == ["job_1"]


async def test_a_start_beyond_the_limit_is_refused_even_if_the_engine_let_it_in(do: Do):
    await do(lambda tx: shares.set_quota(tx, ADA, quota=Quota("blue", "h100", 0, 1)))
    await do(begin("job_1", 0, over=True))

    with pytest.raises(Conflict, match="uses 1 of at most 1 h100"):
        await do(begin("job_2", 1, over=True))


async def test_a_lease_ends_at_its_time_and_not_before(do: Do, plane: ControlPlane):
    soon = plane.clock.now() + timedelta(minutes=5)
    await do(begin("job_1", 0, expires_at=soon))

    early = await do(lambda tx: allocation.expire_leases(tx, SYSTEM))
    await do(lambda tx: allocation.renew_lease(tx, SYSTEM, owner="job_1", expires_at=soon + timedelta(minutes=5)))
    plane.clock.move(400)
    renewed = await do(lambda tx: allocation.expire_leases(tx, SYSTEM))
    plane.clock.move(400)
    late = await do(lambda tx: allocation.expire_leases(tx, SYSTEM))

    assert (early, renewed, late) == (0, 0, 1)
    with pytest.raises(Conflict, match="holds no lease"):
        await do(lambda tx: allocation.renew_lease(tx, SYSTEM, owner="job_1", expires_at=soon))


async def test_maintenance_bounds_the_time_and_keeps_work_away(do: Do, plane: ControlPlane):
    async def reserve(hours: float, name: str) -> None:
        begins = plane.clock.now() + timedelta(hours=hours)
        window = Window(name, "maintenance", begins, begins + timedelta(hours=1), ("gpu1",))
        await do(lambda tx: shares.create_reservation(tx, ADA, window=window, reason=""))

    free: Admission = await do(admit())
    await reserve(5, "later")
    bounded: Admission = await do(admit())
    await reserve(0, "now")
    with pytest.raises(Refused) as refused:
        await do(admit())

    assert free.time_limit_s == 7 * 86400
    assert 5 * 3600 - 360 < bounded.time_limit_s <= 5 * 3600 - 300
    assert "is kept by maintenance reservation now" in " ".join(refused.value.reasons)


async def test_a_spare_node_of_the_schedulers_choice_takes_no_work(do: Do, plane: ControlPlane):
    window = Window("stand-in", "spare", plane.clock.now(), None, (), 1)
    await do(lambda tx: shares.create_reservation(tx, ADA, window=window, reason=""))
    await do(admit())

    await do(lambda tx: shares.mark_chosen(tx, {"stand-in": ("gpu1",)}))
    with pytest.raises(Refused) as refused:
        await do(admit())
    await do(lambda tx: shares.mark_chosen(tx, {}))

    assert "is kept by spare reservation stand-in" in " ".join(refused.value.reasons)
    await do(admit())
    assert (await do(allocation.wanted_scheduler)).reservations[0].nodes == ()


async def test_an_archived_project_and_an_organisation_run_nothing(do: Do):
    with pytest.raises(Exception, match="organisation"):
        await do(admit(share="acme"))
    await do(lambda tx: shares.archive_share(tx, ADA, name="blue"))

    with pytest.raises(Refused, match="archived"):
        await do(admit())


async def test_an_explanation_changes_nothing_and_tells_of_every_gpu(do: Do, plane: ControlPlane, admin: str):
    await do(begin("job_1", 0, share="redoubt"))
    before = await do(live)

    async with plane.client(admin) as client:
        found = (
            await client.get("/allocation/explanation", params={"project": "blue", "gpus": 2, "gpu_type": "h100"})
        ).json()

    assert await do(live) == before
    assert (found["fits"], found["code"]) == (False, "no_fit")
    assert [(gpu["uuid"], gpu["verdict"]) for gpu in found["gpus"]] == [
        ("GPU-gpu1-0", "rejected"), ("GPU-gpu1-1", "free"), ("GPU-gpu2-0", "rejected"), ("GPU-gpu2-1", "rejected"),
    ]  # fmt: skip
    assert "leased by job_1 of redoubt, training" in found["gpus"][0]["reason"]
    assert found["would_fit"]


async def test_a_tenant_is_told_nothing_of_what_others_run(do: Do, plane: ControlPlane):
    await do(begin("job_secret", 0, 1, share="redoubt"))
    await do(lambda tx: fleet.cordon_gpu(tx, ADA, uuid="GPU-gpu2-0", reason="of the other tenant"))
    tenant = await plane.person(Role.TENANT_USER, project="blue")

    async with plane.client(tenant) as client:
        own = await client.get("/allocation/explanation", params={"project": "blue", "gpus": 1, "gpu_type": "h100"})
        other = await client.get("/allocation/explanation", params={"project": "redoubt", "gpus": 1})

    assert "another project's work" in own.text
    assert "job_secret" not in own.text
    assert "of the other tenant" not in own.text
    assert "is cordoned" in own.text
    assert "redoubt" not in str(own.json()["gpus"])
    assert other.status_code == 404


async def test_an_endpoint_may_preempt_training_and_says_whose(do: Do, plane: ControlPlane, admin: str):
    await do(begin("job_1", 0, 1))

    async with plane.client(admin) as client:
        asked: dict[str, str | int] = {"project": "redoubt", "gpus": 1, "gpu_type": "h100", "pool": "inference"}
        found = (await client.get("/allocation/explanation", params=asked)).json()

    assert (found["fits"], found["preempts"]) == (True, ["job_1 of blue, training (2 x h100)"])


async def test_a_lease_is_found_by_its_holder_and_with_its_gpus(do: Do, plane: ControlPlane, admin: str):
    made = await do(begin("job_1", 0, 1))

    async with plane.client(admin) as client:
        by_owner = (await client.get("/leases/job_1")).json()
        by_id = (await client.get(f"/leases/{made.id}")).json()
        missing = await client.get("/leases/job_9")
        listed = (await client.get("/leases", params={"live": "true"})).json()["items"]

    assert by_owner == by_id
    assert by_owner["gpu_uuids"] == ["GPU-gpu1-0", "GPU-gpu1-1"]
    assert missing.status_code == 404
    assert [row["share"] for row in listed] == ["blue"]
