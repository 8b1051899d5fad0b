"""Cordoned GPUs are held on an engine that places by itself: over a real database and an engine in a table."""

from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.allocation.rules.rooms import to_rooms
from controlplane.domains.audit.types import Role
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.loops import AGAIN_AFTER_S, LATE_AFTER_S, LONG_S, SHORT_S, HoldLoop
from controlplane.domains.fleet.rules import plan_holds
from controlplane.domains.fleet.types import GpuState, HeldGpu, HoldPlan, SeenGpu
from controlplane.engines.port import EngineState, RunOrder
from controlplane.kit.errors import Unavailable
from tests.support.control_plane import ControlPlane

GPUS = 4
CARD = SeenGpu("GPU-0", "gpu1", "NVIDIA H100 80GB HBM3", 80, GpuState.PRESENT, type="h100")


class Site:
    """One node with four GPUs and the loop."""

    def __init__(self, plane: ControlPlane, key: str) -> None:
        self.plane, self.key, self.engine = plane, key, plane.engine
        self.loop = self.new_loop()

    def new_loop(self) -> HoldLoop:
        """Return the loop as it is after a restart of the reconciler."""
        return HoldLoop(self.plane.database, self.engine, self.plane.clock)

    async def cordon(self, index: int) -> None:
        await self._ask("PUT", index, {"reason": "ecc"})

    async def uncordon(self, index: int) -> None:
        await self._ask("DELETE", index, None)

    async def rounds(self, count: int = 2 * GPUS) -> None:
        for _ in range(count):
            await self.loop.step()
            await self.plane.report("gpu1", gpus=GPUS)
            self.plane.clock.move(1)

    def held(self) -> list[int]:
        """Return the GPUs that live holds have."""
        live = [run for run in self.engine.runs.values() if run.name.startswith("hold_")]
        return sorted(i for run in live if run.state is EngineState.RUNNING for i in run.gpu_indexes)

    async def exposed(self) -> list[str]:
        async with self.plane.database.transaction() as tx:
            return [uuid for uuid, cordon in (await fleet.cordoned_gpus(tx)).items() if cordon.exposed]

    async def _ask(self, method: str, index: int, body: dict[str, str] | None) -> None:
        async with self.plane.client(self.key) as client:
            answer = await client.request(method, f"/gpus/GPU-gpu1-{index}/cordon", json=body)
        assert answer.status_code == httpx.codes.OK, answer.text


@pytest.fixture
async def site(plane: ControlPlane) -> Site:
    plane.engine.devices = {"gpu1": GPUS}
    await plane.report("gpu1", gpus=GPUS)
    return Site(plane, await plane.person(Role.OPERATOR))


async def test_a_cordoned_gpu_is_held_and_no_other_one_stays_held(site: Site):
    await site.cordon(2)

    await site.rounds()

    assert site.held() == [2]
    assert {(order.qos, order.gpus, order.only_nodes) for order in site.engine.orders} == {("hold", 1, ("gpu1",))}
    assert site.engine.orders[0].gpu_type == "h100"


async def test_rounds_without_a_change_start_nothing_more(site: Site):
    await site.cordon(2)
    await site.rounds()
    before = len(site.engine.orders)

    await site.rounds()

    assert len(site.engine.orders) == before == 3


async def test_an_uncordoned_gpu_is_let_go(site: Site):
    await site.cordon(0)
    await site.rounds()
    await site.uncordon(0)

    await site.rounds()

    assert site.held() == []


async def test_several_cordoned_gpus_are_each_held_once(site: Site):
    for index in (1, 3):
        await site.cordon(index)

    await site.rounds()

    assert site.held() == [1, 3]


async def test_a_gpu_that_a_run_of_ours_uses_is_held_when_that_ends(site: Site):
    await site.engine.start(RunOrder("replica_1", (), {}, gpus=1, gpu_type="", time_limit_s=60))
    await site.cordon(0)
    await site.rounds()
    meanwhile = site.held()
    site.engine.end("replica_1")

    await site.rounds()

    assert (meanwhile, site.held()) == ([], [0])


async def test_a_gpu_in_strange_hands_is_given_up_for_a_while_and_the_others_are_free(site: Site):
    site.engine.taken = {("gpu1", 3)}
    await site.cordon(3)
    await site.rounds(2 * int(LATE_AFTER_S) + 4 * GPUS)
    given_up, orders = site.held(), len(site.engine.orders)
    await site.rounds(int(AGAIN_AFTER_S / 4))
    assert (given_up, len(site.engine.orders)) == ([], orders)
    site.engine.taken = set()
    site.plane.clock.move(AGAIN_AFTER_S)
    await site.plane.report("gpu1", gpus=GPUS)

    await site.rounds()

    assert site.held() == [3]


async def test_a_reconciler_that_starts_again_goes_on_where_the_last_one_was(site: Site):
    await site.cordon(2)
    for _ in range(2 * GPUS):
        site.loop = site.new_loop()
        await site.rounds(1)

    assert site.held() == [2]
    assert len(site.engine.orders) == 3


async def test_an_engine_that_is_away_delays_and_leaks_nothing(site: Site):
    await site.cordon(1)
    await site.rounds(1)
    site.engine.away = True
    with pytest.raises(Unavailable):
        await site.loop.step()
    site.engine.away = False

    await site.rounds()

    assert site.held() == [1]


async def test_a_hold_that_the_engine_ended_is_started_again(site: Site):
    await site.cordon(0)
    await site.rounds()
    site.engine.end(site.engine.orders[-1].name)

    await site.rounds()

    assert site.held() == [0]


async def test_an_engine_that_refuses_what_does_not_fit_gets_its_gpus_back(site: Site):
    """The engine of one host refuses at once where Slurm lets a run wait."""
    site.engine.taken = {("gpu1", 3)}
    site.engine.refuses = True
    await site.cordon(3)
    await site.rounds()
    given_up = site.held()
    site.engine.taken = set()
    site.plane.clock.move(AGAIN_AFTER_S)

    await site.rounds()

    assert (given_up, site.held()) == ([], [3])


async def test_before_a_maintenance_a_short_hold_is_tried(site: Site):
    site.engine.longest_s = 7200
    await site.cordon(0)

    await site.rounds(int(LATE_AFTER_S) + 4 * GPUS)

    assert site.held() == [0]
    assert [order.time_limit_s for order in site.engine.orders] == [LONG_S, SHORT_S]


async def test_a_gpu_is_exposed_from_the_first_look_until_it_is_held(site: Site):
    await site.cordon(2)
    await site.rounds(1)
    seeking = await site.exposed()
    await site.rounds()

    assert (seeking, await site.exposed()) == (["GPU-gpu1-2"], [])


async def test_a_gpu_in_use_is_not_exposed_and_is_when_its_run_ends(site: Site):
    await site.engine.start(RunOrder("replica_1", (), {}, gpus=1, gpu_type="", time_limit_s=60))
    await site.cordon(0)
    await site.rounds(1)
    in_use = await site.exposed()
    site.engine.end("replica_1")
    await site.rounds(1)

    assert (in_use, await site.exposed()) == ([], ["GPU-gpu1-0"])


async def test_nothing_is_placed_on_a_node_while_a_cordoned_gpu_of_it_is_exposed(site: Site):
    async def rooms() -> list[str]:
        async with site.plane.database.transaction() as tx:
            return [room.reason for room in to_rooms(await fleet.view_fleet(tx), (), ()) if room.reason]

    async with site.plane.client(await site.plane.person(Role.PLATFORM_ADMIN)) as client:
        node = {"name": "gpu1", "address": "10.0.0.1", "zone": "north", "purposes": []}
        await client.put("/nodes", json={"nodes": [node | {"gpus": [{"type": "h100", "count": GPUS}]}]})
    await site.cordon(1)
    await site.rounds(1)
    exposed = await rooms()
    await site.rounds()

    assert exposed == ["a cordoned GPU of it is not held yet: GPU-gpu1-1"]
    assert await rooms() == []


devices = st.sets(st.integers(0, GPUS - 1))


@given(devices, devices, st.lists(st.one_of(st.none(), st.integers(0, GPUS - 1)), max_size=2 * GPUS))
def test_a_round_never_ends_the_only_hold_of_a_wanted_gpu_and_asks_for_one_gpu_at_most(
    cordoned: set[int], busy: set[int], given_to: list[int | None]
):
    gpus = [replace(CARD, uuid=f"GPU-{i}", index=i) for i in sorted(cordoned)]
    held = [HeldGpu(f"hold_gpu1_{n}", "gpu1", device) for n, device in enumerate(given_to)]

    plan = plan_holds(gpus, [("gpu1", device) for device in busy], held)

    wanted = cordoned - busy
    left = [hold.device for hold in held if hold.run not in plan.stop]
    assert len(plan.start) <= 1
    assert (wanted & set(given_to)) <= set(left)
    if wanted <= set(given_to):
        assert sorted(left, key=str) == sorted(wanted, key=str)
    if not wanted and not held:
        assert plan == HoldPlan()
