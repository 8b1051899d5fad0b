"""What a decision costs grows no faster than the fleet, counted in calls: a busy machine is no finding."""

import cProfile
from collections.abc import Callable
from datetime import timedelta

from controlplane.domains.allocation.rules.explain import judge_gpus, refuse
from controlplane.domains.allocation.rules.placement import choose
from controlplane.domains.allocation.rules.rooms import to_rooms
from controlplane.domains.allocation.types import Ask, LeaseFact, NodeRoom
from controlplane.domains.fleet.types import GpuState, NodeState, NodeView, SeenGpu
from controlplane.domains.shares.types import Pool
from tests.support.fleets import GIB, NOW, leases_of, look, make_claim, make_lease

GROWTH = 8
SLACK = 1.1


def make_site(nodes: int) -> list[NodeView]:
    return [
        NodeView(name, "north", "203.0.113.1", NodeState.READY, (), NOW, tuple(make_gpus(name)))
        for name in (f"n{number}" for number in range(nodes))
    ]


def make_gpus(node: str) -> list[SeenGpu]:
    return [
        SeenGpu(f"{node}-{i}", node, "NVIDIA H100 80GB HBM3", 80 * GIB, GpuState.PRESENT, type="h100", index=i)
        for i in range(8)
    ]


def hold_half(nodes: list[NodeView]) -> list[LeaseFact]:
    return [
        make_lease(
            f"job_{node.name}",
            node=node.name,
            count=6,
            gpu_uuids=tuple(gpu.uuid for gpu in node.gpus[:6]),
            granted_at=NOW + timedelta(seconds=number),
        )
        for number, node in enumerate(nodes)
    ]


def calls_of(work: Callable[[], object]) -> int:
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def grows(work: Callable[[list[NodeRoom]], object]) -> float:
    small, large = (to_rooms(site, hold_half(site), ()) for site in (make_site(20), make_site(20 * GROWTH)))
    return calls_of(lambda: work(list(large))) / calls_of(lambda: work(list(small)))


def test_placing_refusing_and_explaining_grow_no_faster_than_the_fleet() -> None:
    def place(count: int, pool: Pool) -> Callable[[list[NodeRoom]], object]:
        return lambda rooms: choose(look(Ask(count, "h100", 0), make_claim(pool=pool), rooms), rooms)

    def refusing(rooms: list[NodeRoom]) -> object:
        claim = make_claim(leases=leases_of(rooms))
        return refuse(look(Ask(4, "h100", 0), claim, rooms), rooms)

    def explaining(rooms: list[NodeRoom]) -> object:
        return judge_gpus(look(Ask(4, "h100", 0), make_claim(), rooms), rooms)

    works = {
        "fits": place(2, Pool.TRAINING), "preempts": place(8, Pool.INFERENCE), "refused": refusing, "told": explaining,
    }  # fmt: skip
    assert {name: grows(work) for name, work in works.items() if grows(work) > GROWTH * SLACK} == {}


def test_bringing_a_site_together_grows_no_faster_than_the_fleet() -> None:
    def calls(nodes: int) -> int:
        site = make_site(nodes)
        leases = hold_half(site)
        return calls_of(lambda: to_rooms(site, leases, ()))

    assert calls(20 * GROWTH) <= calls(20) * GROWTH * SLACK
