"""Slurm's daemons killed while runs are submitted and while they run: no run is lost, doubled or ended."""

import asyncio

import pytest
from practice.site import PracticeSite

from controlplane.engines.port import Engine, EngineState, RunOrder
from controlplane.kit.errors import Unavailable
from tests.engines.benches import SlurmBench
from tests.engines.conformance import end, shell, until
from tests.system.steps import wait_for

pytestmark = pytest.mark.system


async def test_a_slurmctld_killed_while_runs_are_submitted_loses_and_doubles_none(
    site: PracticeSite, bench: SlurmBench
) -> None:
    orders = [shell("echo started; exec sleep 120") for _ in range(8)]
    engine = bench.connect()

    async def kill() -> None:
        for pause_s in (0.02, 2.5):
            await asyncio.sleep(pause_s)
            await asyncio.to_thread(site.lab.ssh, "ctl1", "systemctl kill --signal=SIGKILL slurmctld")

    await asyncio.gather(kill(), *(_start_until_seen(engine, order) for order in orders))

    living = site.lab.ssh("ctl1", "squeue --noheader --states=running --format=%j").stdout.split()
    for order in orders:
        run = (await engine.observe())[order.name]
        assert run.state is EngineState.RUNNING
        assert living.count(order.name) == 1
        await end(bench, order.name)


async def test_a_run_goes_on_while_slurmctld_is_away_and_is_the_same_run_afterwards(
    site: PracticeSite, bench: SlurmBench
) -> None:
    order = shell("for i in $(seq 1000); do echo $i; sleep 0.5; done")
    await bench.connect().start(order)
    before = await until(bench, order.name, lambda run: run.state is EngineState.RUNNING)
    site.lab.ssh("ctl1", "systemctl stop slurmctld")
    try:
        lines = len(bench.read_log(before).splitlines())
        with pytest.raises(Unavailable):
            await bench.connect().observe()
        wait_for(lambda: len(bench.read_log(before).splitlines()) > lines, "the run to go on")
        assert site.answers()
    finally:
        site.lab.ssh("ctl1", "systemctl start slurmctld")
    after = await _seen_at_last(bench, order.name)

    assert (after.ref, after.state, after.restarts) == (before.ref, EngineState.RUNNING, 0)
    await end(bench, order.name)


async def _start_until_seen(engine: Engine, order: RunOrder) -> None:
    """Start as a loop does until it runs: Slurm writes down after seconds what it took, and forgets it when killed."""
    for _time in range(240):
        try:
            run = (await engine.observe()).get(order.name)
            if run is None:
                await engine.start(order)
            elif run.state is EngineState.RUNNING:
                return
        except Unavailable:
            pass
        await asyncio.sleep(0.5)
    raise AssertionError(f"{order.name} never ran")


async def _seen_at_last(bench: SlurmBench, name: str):
    for _time in range(120):
        try:
            return (await bench.connect().observe())[name]
        except Unavailable:
            await asyncio.sleep(0.5)
    raise AssertionError(f"{name} was never seen again")
