from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.allocation.rules import quota
from controlplane.domains.allocation.rules.explain import judge_gpus, refuse
from controlplane.domains.allocation.rules.placement import choose, could_ever_fit, group, type_of_waiting, usable
from controlplane.domains.allocation.rules.preemption import may_take
from controlplane.domains.allocation.rules.rooms import with_grant
from controlplane.domains.allocation.types import Ask, GpuRoom, NodeRoom
from controlplane.domains.shares.types import Pool, Quota, Window
from tests.support.fleets import (
    CHAINS,
    GIB,
    NOW,
    asks,
    claimants,
    fleets,
    leases_of,
    look,
    make_claim,
    make_lease,
    make_room,
    make_terms,
    pools,
    quotas,
)  # fmt: skip


@given(asks, fleets(), claimants, pools, quotas, st.booleans())
def test_every_chosen_node_has_what_was_asked_free_or_held_by_what_is_preempted(
    ask: Ask, rooms: list[NodeRoom], share: str, pool: Pool, known: list[Quota], yields: bool
) -> None:
    seen = look(ask, make_claim(share, pool, quotas=known, leases=leases_of(rooms), yields=yields), rooms)
    placed = choose(seen, rooms)
    for name in placed.nodes if placed else ():
        room = next(room for room in rooms if room.node == name)
        lost = {lease.id for lease in placed.preempts} if placed else set()
        freed = sum(gpu.lease is not None and gpu.lease.id in lost and not gpu.reason for gpu in room.gpus)
        assert not room.reason
        assert room.free + freed - room.owed >= ask.count or (not lost and room.free >= ask.count)
        assert room.memory_bytes >= ask.memory_bytes
        assert ask.type in ("", room.type)
        assert ask.zone in ("", room.zone)


@given(asks, fleets(), claimants, pools, quotas, st.booleans())
def test_no_grant_passes_a_limit_of_its_share_or_of_what_that_is_a_part_of(
    ask: Ask, rooms: list[NodeRoom], share: str, pool: Pool, known: list[Quota], yields: bool
) -> None:
    leases = leases_of(rooms)
    placed = choose(look(ask, make_claim(share, pool, quotas=known, leases=leases, yields=yields), rooms), rooms)
    if placed is None or share == "redoubt":
        return
    mine = make_lease("new", share=share, pool=pool, over=placed.over_quota, gpu_type=placed.gpu_type, count=ask.count)
    before, after = quota.count_used(leases, CHAINS), quota.count_used([*leases, mine], CHAINS)
    bounds = {one.share: one for one in known if one.gpu_type == placed.gpu_type}
    assert make_claim(share).project in bounds  # without a quota of its own a project has nothing
    for name in CHAINS[share]:
        used = after.all.get((name, placed.gpu_type), 0)
        assert name not in bounds or used <= bounds[name].most
        firm = after.guaranteed.get((name, placed.gpu_type), 0)
        was = before.guaranteed.get((name, placed.gpu_type), 0)
        assert name not in bounds or firm <= max(was, bounds[name].guaranteed)


@given(asks, fleets(), claimants, pools, quotas, st.booleans())
def test_what_is_within_the_floor_of_inference_is_never_preempted(
    ask: Ask, rooms: list[NodeRoom], share: str, pool: Pool, known: list[Quota], yields: bool
) -> None:
    placed = choose(look(ask, make_claim(share, pool, quotas=known, yields=yields), rooms), rooms)
    for lease in placed.preempts if placed else ():
        assert (lease.pool, lease.over_quota) != (Pool.INFERENCE, False)
        assert lease.qos != "interactive"


@given(asks, fleets(), claimants, quotas)
def test_work_beyond_its_guarantee_preempts_nobody(
    ask: Ask, rooms: list[NodeRoom], share: str, known: list[Quota]
) -> None:
    placed = choose(look(ask, make_claim(share, Pool.INFERENCE, quotas=known, yields=True), rooms), rooms)

    assert placed is None or placed.preempts == ()


@given(asks, fleets(), claimants, pools, quotas)
def test_a_refusal_has_a_reason_for_every_gpu_and_names_a_way_forward(
    ask: Ask, rooms: list[NodeRoom], share: str, pool: Pool, known: list[Quota]
) -> None:
    seen = look(ask, make_claim(share, pool, quotas=known, leases=leases_of(rooms)), rooms)
    if choose(seen, rooms) is None:
        refusal = refuse(seen, rooms)
        assert refusal.reasons
        assert refusal.remedy
        found = judge_gpus(seen, rooms)
        assert [one.uuid for one in found] == [gpu.uuid for room in rooms for gpu in room.gpus]
        assert all(one.reason for one in found)


@given(asks, fleets(), claimants, pools, quotas)
def test_what_fits_now_could_always_fit(
    ask: Ask, rooms: list[NodeRoom], share: str, pool: Pool, known: list[Quota]
) -> None:
    claim = make_claim(share, pool, quotas=known, leases=leases_of(rooms))
    if choose(look(ask, claim, rooms), rooms):
        assert could_ever_fit(ask, claim, rooms) is None


@given(asks, fleets(), st.data())
def test_the_nearest_possible_ask_is_possible(ask: Ask, rooms: list[NodeRoom], data: st.DataObject) -> None:
    refusal = could_ever_fit(ask, make_claim(), rooms)
    if refusal is not None and refusal.remedy.startswith("ask for at most"):
        count = int(refusal.remedy.split()[4])
        assert could_ever_fit(replace(ask, count=count), make_claim(), rooms) is None


def test_the_fullest_node_that_fits_comes_first_so_that_large_asks_keep_room() -> None:
    rooms = [make_room("roomy", 8), make_room("tight", 2)]

    placed = choose(look(Ask(2, "h100", 40 * GIB), make_claim(), rooms), rooms)

    assert placed is not None
    assert placed.nodes == ("tight", "roomy")


def test_an_island_is_kept_whole_while_a_broken_one_has_room() -> None:
    busy = make_lease("job")
    broken = [GpuRoom(f"b{i}", "i0", lease=busy if i < 2 else None) for i in range(4)]
    rooms = [make_room("whole", [GpuRoom(f"w{i}", "i0") for i in range(4)]), make_room("broken", broken)]

    def first(count: int) -> str:
        placed = choose(look(Ask(count, "h100", 0), make_claim(), rooms), rooms)
        return placed.nodes[0] if placed else ""

    assert (first(2), first(4)) == ("broken", "whole")


def test_copies_of_an_endpoint_go_apart_and_then_where_the_model_is() -> None:
    rooms = [make_room("a", 4), make_room("b", 4), make_room("c", 4)]
    ask = Ask(1, "h100", 0, apart=("a",), near=frozenset({"a", "c"}))

    placed = choose(look(ask, make_claim(), rooms), rooms)

    assert placed is not None
    assert placed.nodes == ("c", "b", "a")


def test_no_larger_gpu_is_taken_than_is_needed() -> None:
    rooms = [make_room("big", 1, memory=141 * GIB, kind="h200"), make_room("small", 8)]

    placed = choose(look(Ask(1, "", 40 * GIB), make_claim(), rooms), rooms)

    assert placed is not None
    assert placed.gpu_type == "h100"


def test_of_two_jobs_the_one_beyond_its_guarantee_is_preempted_and_no_more_than_needed() -> None:
    firm, over = make_lease("firm", count=2), make_lease("over", over=True, count=2)
    cards = [GpuRoom(f"g{i}", "", lease=firm if i < 2 else over) for i in range(4)]
    rooms = [make_room("gpu1", cards)]

    placed = choose(look(Ask(2, "h100", 0), make_claim(pool=Pool.INFERENCE), rooms), rooms)

    assert placed is not None
    assert [lease.owner for lease in placed.preempts] == ["over"]


def test_two_asks_do_not_count_on_the_same_preemption() -> None:
    job = make_lease("job", count=2)
    rooms = [make_room("gpu1", [GpuRoom(f"g{i}", "", lease=job) for i in range(2)], promised=2)]

    assert choose(look(Ask(1, "h100", 0), make_claim(pool=Pool.INFERENCE), rooms), rooms) is None


def test_copies_of_its_own_that_serve_are_not_preempted() -> None:
    own = make_lease("replica_1", share="redoubt", pool=Pool.INFERENCE, over=True)
    rooms = [make_room("gpu1", [GpuRoom("g0", "", lease=own)])]
    claim = make_claim(pool=Pool.INFERENCE)

    def fits(ask: Ask) -> bool:
        return choose(look(ask, claim, rooms), rooms) is not None

    assert fits(Ask(1, "h100", 0))
    assert not fits(Ask(1, "h100", 0, spared=frozenset({"replica_1"})))


def test_what_must_be_within_its_guarantee_takes_nothing_beyond_it_and_looks_on() -> None:
    known = [Quota("blue", "h100", 0, 4), Quota("blue", "a100", 1, 4)]
    rooms = [make_room("small", 4), make_room("large", 4, kind="a100", memory=160 * GIB)]

    def chosen(ask: Ask, *, firm: bool) -> str:
        claim = replace(make_claim("blue", Pool.INFERENCE, quotas=known), firm=firm)
        seen = look(ask, claim, rooms)
        placed = choose(seen, rooms)
        return placed.gpu_type if placed else refuse(seen, rooms).code

    assert chosen(Ask(1, "", 0), firm=True) == "a100"
    assert chosen(Ask(1, "", 0), firm=False) == "a100"  # the guarantee first, though it is larger than needed
    assert chosen(Ask(1, "h100", 0), firm=True) == "beyond_guarantee"
    assert chosen(Ask(2, "", 0), firm=False) == "h100"


def test_work_that_waits_is_told_one_type_to_wait_for() -> None:
    known = [Quota("blue", "a100", 0, 4)]
    busy = make_lease("job", count=2, gpu_type="a100")
    rooms = [make_room("gpu1", 4), make_room("gpu2", [GpuRoom(f"g{i}", "", lease=busy) for i in range(2)], kind="a100")]

    seen = look(Ask(2, "", 0), make_claim("blue", quotas=known), rooms)

    assert choose(seen, rooms) is None
    assert type_of_waiting(seen, rooms) == "a100"
    assert [room.node for room in usable(seen, rooms, "a100")] == ["gpu2"]


def test_a_grant_in_the_same_transaction_takes_room() -> None:
    rooms = (make_room("gpu1", 2), make_room("gpu2", 2))

    after = with_grant(with_grant(rooms, "gpu1", "h100", 1), "gpu1", "h100", 2)

    assert [(room.free, room.owed) for room in after] == [(0, 1), (2, 0)]


def test_a_tenant_reads_no_figures_of_what_its_project_is_a_part_of() -> None:
    known = [Quota("blue", "h100", 0, 8), Quota("org", "h100", 0, 4)]
    held = [make_lease("job", share="red", count=4)]

    def why(tells: str) -> str:
        claim = replace(make_claim("blue", quotas=known, leases=held), tells=tells)
        return quota.judge(claim, "h100", 1).why

    assert why("") == "org uses 4 of at most 4 h100, 1 asked"
    assert "4" not in why("blue")


def test_training_preempts_no_training_within_its_guarantee() -> None:
    assert not may_take("training", make_lease("job"))
    assert may_take("training", make_lease("job", over=True))
    assert may_take("inference", make_lease("job"))


def test_a_reservation_keeps_others_away_and_bounds_how_long_work_runs_before_it() -> None:
    def window(kind: str, hours: float) -> Window:
        return Window("w", kind, NOW + timedelta(hours=hours), NOW + timedelta(hours=hours + 5), ("gpu1",), 0, ("org",))

    def placed(share: str, kind: str, hours: float) -> int | None:
        rooms = [make_room("gpu1", 4, windows=(window(kind, hours),))]
        known = [Quota("blue", "h100", 4, 4)]
        found = choose(look(Ask(1, "h100", 0), make_claim(share, quotas=known), rooms), rooms)
        return found.time_limit_s if found else None

    week = 7 * 86400
    assert placed("blue", "guaranteed", -1) == week
    assert placed("redoubt", "guaranteed", -1) is None
    assert placed("blue", "maintenance", -1) is None
    assert placed("redoubt", "maintenance", 0.1) is None
    assert placed("redoubt", "maintenance", 3) == 3 * 3600 - 300
    assert placed("redoubt", "spare", -1) is None


def test_a_node_without_a_reservation_soon_comes_first() -> None:
    soon = Window("w", "maintenance", NOW + timedelta(hours=3), NOW + timedelta(hours=5), ("soon",))
    rooms = [make_room("soon", 1, windows=(soon,)), make_room("late", 8)]

    placed = choose(look(Ask(1, "h100", 0), make_claim(), rooms), rooms)

    assert placed is not None
    assert placed.nodes[0] == "late"


def test_a_refusal_says_what_would_make_it_fit() -> None:
    busy = make_lease("replica_1", share="redoubt", pool=Pool.INFERENCE, count=3, expires_at=NOW + timedelta(hours=1))
    cards = [GpuRoom("g0", ""), *(GpuRoom(f"g{i}", "", lease=busy) for i in range(1, 4))]
    rooms = [make_room("gpu1", cards)]

    refusal = refuse(look(Ask(2, "h100", 0), make_claim(), rooms), rooms)

    assert refusal.would_fit == (
        "replica_1 of redoubt, inference, on gpu1, ends, by 27 Nov 01:00 at the latest",
        "1 x h100 are asked, which are free on gpu1 now",
    )


def test_quotas_refuse_with_the_figures_and_the_next_step() -> None:
    rooms = [make_room("gpu1", 8)]
    held = [make_lease("job", count=3)]

    def code(share: str, count: int, *known: Quota, pool: int | None = None) -> str:
        terms = make_terms(max_gpus=(("h100", pool),) if pool is not None else ())
        claim = make_claim(share, quotas=known, leases=held, terms=terms)
        seen = look(Ask(count, "h100", 0), claim, rooms)
        return "fits" if choose(seen, rooms) else refuse(seen, rooms).code

    assert code("blue", 1) == "no_quota"
    assert code("red", 1, Quota("blue", "h100", 0, 8)) == "no_quota"
    assert code("blue", 1, Quota("blue", "h100", 0, 4)) == "fits"
    assert code("blue", 2, Quota("blue", "h100", 0, 4)) == "over_quota"
    assert code("crew", 2, Quota("blue", "h100", 0, 4)) == "over_quota"
    assert code("red", 2, Quota("red", "h100", 0, 8), Quota("org", "h100", 0, 4)) == "over_quota"
    assert code("redoubt", 8) == "fits"
    assert code("redoubt", 2, pool=4) == "over_quota"


def test_a_thousand_nodes_with_one_reason_are_one_line() -> None:
    lines = group([(f"n{i}", "has a100, h100 asked") for i in range(1000)])

    assert lines == ("n0, n1, n2 and 997 more: has a100, h100 asked",)
