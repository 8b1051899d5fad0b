"""What every engine promises. A subclass gives the fixture `bench`; the runs are real."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from controlplane.engines.port import EndWarning, Engine, EngineState, ObservedRun, RunOrder
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.ids import new_id

CONTROLLER = Path(__file__).with_name("killed_controller.py")
SHOW = "import json, os, sys; print(json.dumps({'argv': sys.argv[1:], 'environment': dict(os.environ)}), flush=True)"
AWKWARD = ("", "two words", "both \"quotes\" and 'these'", "a\nb", "$HOME `id` \\ *", "--flag=ü€𝄞")
WARNED = 'trap "echo warned" USR1; echo up; while :; do sleep 0.1; done'
STUBBORN = 'trap "echo heard TERM" TERM; echo up; while :; do sleep 0.1; done'


class Bench(Protocol):
    """One engine to be tried: how to make it, and how to see what its runs printed."""

    patience_s: float

    def connect(self) -> Engine: ...
    def unreachable(self) -> Engine: ...
    def recipe(self) -> dict[str, str]:
        """Return what `killed_controller.py` needs to connect."""
        ...

    def read_log(self, run: ObservedRun) -> str: ...


class EngineConformance:
    async def test_starting_a_run_twice_starts_it_once(self, bench: Bench):
        order = shell("echo started; sleep 30")

        await bench.connect().start(order)
        again = await bench.connect().start(order)

        run = await until(bench, order.name, lambda run: "started" in bench.read_log(run))
        assert (again.name, again.ref) == (run.name, run.ref)
        assert bench.read_log(run).count("started") == 1
        await end(bench, order.name)

    async def test_a_run_that_is_over_is_not_started_again(self, bench: Bench):
        order = shell("echo started")
        engine = bench.connect()
        await engine.start(order)
        await until(bench, order.name, has_ended)

        again = await engine.start(order)

        assert again.state is EngineState.ENDED
        assert bench.read_log(again).count("started") == 1

    async def test_a_run_is_seen_from_its_start_to_its_end(self, bench: Bench):
        order = shell("sleep 1.5; exit 7")
        engine = bench.connect()

        begun = await engine.start(order)
        running = await until(bench, order.name, lambda run: run.state is EngineState.RUNNING)
        ended = await until(bench, order.name, has_ended)

        assert begun.state in {EngineState.WAITING, EngineState.RUNNING}
        assert running.node
        assert running.ref == ended.ref == begun.ref
        assert "7" in ended.reason

    async def test_a_run_tells_when_it_started_when_it_ended_and_with_which_status(self, bench: Bench):
        order = shell("sleep 1; exit 7")
        engine = bench.connect()
        await engine.start(order)

        running = await until(bench, order.name, lambda run: run.state is EngineState.RUNNING, engine=engine)
        ended = await until(bench, order.name, has_ended, engine=engine)

        assert running.started_at is not None
        assert running.ended_at is None
        assert ended.started_at is not None
        assert ended.ended_at is not None
        assert ended.ended_at >= ended.started_at
        assert (ended.status, ended.restarts) == (7, 0)

    async def test_a_run_is_warned_before_its_time_limit(self, bench: Bench):
        order = replace(shell(WARNED), time_limit_s=60, warning=EndWarning("USR1", before_s=58))
        engine = bench.connect()
        await engine.start(order)

        warned = await until(bench, order.name, lambda run: "warned" in bench.read_log(run), engine=engine)

        assert warned.state is EngineState.RUNNING
        assert bench.read_log(warned).count("warned") == 1
        await end(bench, order.name)

    async def test_a_run_that_names_its_nodes_starts_there_or_nowhere(self, bench: Bench):
        first = shell("true")
        await bench.connect().start(first)
        node = (await until(bench, first.name, has_ended)).node
        only = replace(shell("true"), only_nodes=(node, "no-such-node"))
        avoided = replace(shell("true"), only_nodes=(node,), avoid_nodes=(node,))

        await bench.connect().start(only)
        with pytest.raises(Refused) as refused:
            await bench.connect().start(avoided)

        assert (await until(bench, only.name, has_ended)).node == node
        assert refused.value.reasons

    async def test_an_array_is_as_many_runs_as_it_has_elements_or_is_refused(self, bench: Bench):
        order = replace(shell("echo element; sleep 30"), array="0-2%2")
        engine = bench.connect()
        if not engine.abilities.arrays:
            with pytest.raises(Refused, match="array"):
                await engine.start(order)
            return
        names = [f"{order.name}.{index}" for index in range(3)]

        begun = await engine.start(order)
        again = await bench.connect().start(order)
        first = await until(bench, names[0], lambda run: "element" in bench.read_log(run), engine=engine)
        seen = await engine.observe()

        assert begun.name == order.name
        assert again.ref.partition("_")[0] == begun.ref
        assert [seen[name].name for name in names] == names
        assert order.name not in seen
        assert first.ref == f"{begun.ref}_0"
        assert seen[names[2]].state is EngineState.WAITING
        await engine.stop(names[0], grace_s=1)
        await until(bench, names[0], has_ended, engine=engine)
        await until(bench, names[2], lambda run: run.state is EngineState.RUNNING, engine=engine)
        await engine.stop(order.name, grace_s=1)
        await until(bench, names[1], has_ended, engine=engine)
        await until(bench, names[2], has_ended, engine=engine)

    async def test_argv_and_environment_arrive_exactly(self, bench: Bench):
        environment = {f"REDOUBT_TEST_{n}": value for n, value in enumerate(AWKWARD)} | {"A_b": "x=y"}
        order = replace(shell(""), argv=("python3", "-c", SHOW, *AWKWARD), environment=environment)

        await bench.connect().start(order)
        shown = json.loads(bench.read_log(await until(bench, order.name, has_ended)))

        assert tuple(shown["argv"]) == AWKWARD
        assert {name: shown["environment"].get(name) for name in environment} == environment

    async def test_stop_may_be_repeated_until_the_run_is_gone_and_after(self, bench: Bench):
        order = shell("exec sleep 60")
        engine = bench.connect()
        await engine.start(order)
        await until(bench, order.name, lambda run: run.state is EngineState.RUNNING)

        for _time in range(3):
            await engine.stop(order.name, grace_s=30)
        await until(bench, order.name, has_ended)

        await engine.stop(order.name, grace_s=30)

    async def test_a_run_hears_sigterm_before_it_is_killed(self, bench: Bench):
        order = shell(STUBBORN)
        engine = bench.connect()
        await engine.start(order)
        await until(bench, order.name, lambda run: "up" in bench.read_log(run))

        began = asyncio.get_running_loop().time()
        await engine.stop(order.name, grace_s=1.5)
        asked_s = asyncio.get_running_loop().time() - began
        heard = await until(bench, order.name, lambda run: "heard TERM" in bench.read_log(run), engine=engine)
        ended = await until(bench, order.name, has_ended, engine=engine)

        assert asked_s < 1.5
        assert heard.state is EngineState.RUNNING
        assert "kill" in ended.reason.lower()

    async def test_stopping_what_was_never_started_is_a_success(self, bench: Bench):
        await bench.connect().stop(new_id("run"), grace_s=1)

    async def test_a_refused_ask_names_its_reasons_and_leaves_no_run(self, bench: Bench):
        order = replace(shell("true"), gpus=64, gpu_type="h100")

        with pytest.raises(Refused) as refused:
            await bench.connect().start(order)

        assert refused.value.reasons
        assert refused.value.remedy
        assert order.name not in await bench.connect().observe()

    async def test_a_controller_killed_while_it_starts_a_run_neither_loses_nor_doubles_it(self, bench: Bench):
        for after_s in (0.0, 0.004, 0.015, 0.05, 0.2):
            order = shell("echo started; sleep 30")
            kill_a_controller(bench, order, after_s)

            await bench.connect().start(order)

            run = await until(bench, order.name, lambda run: "started" in bench.read_log(run) or has_ended(run))
            assert bench.read_log(run).count("started") <= 1
            assert list(await bench.connect().observe()).count(order.name) == 1
            await end(bench, order.name)

    async def test_an_engine_out_of_reach_says_so_and_guesses_nothing(self, bench: Bench):
        engine = bench.unreachable()

        for call in (engine.observe(), engine.start(shell("true")), engine.stop("run_x", grace_s=1)):
            with pytest.raises(Unavailable) as unavailable:
                await call
            assert unavailable.value.remedy


def shell(script: str) -> RunOrder:
    return RunOrder(
        name=new_id("run"), argv=("/bin/sh", "-c", script), environment={}, gpus=0, gpu_type="", time_limit_s=120
    )


def has_ended(run: ObservedRun) -> bool:
    return run.state is EngineState.ENDED


async def until(
    bench: Bench, name: str, holds: Callable[[ObservedRun], bool], *, engine: Engine | None = None
) -> ObservedRun:
    """Observe until it holds, as the reconciler does."""
    engine = engine or bench.connect()
    run = None
    for _time in range(int(bench.patience_s / 0.1)):
        run = (await engine.observe()).get(name)
        if run is not None and holds(run):
            return run
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} stayed {run}")


async def end(bench: Bench, name: str) -> None:
    engine = bench.connect()
    await engine.stop(name, grace_s=0.2)
    await until(bench, name, has_ended, engine=engine)


def kill_a_controller(bench: Bench, order: RunOrder, after_s: float) -> None:
    """Have another process start the order, and kill it `after_s` after it began."""
    ask = json.dumps({"recipe": bench.recipe(), "name": order.name, "argv": order.argv})
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, str(CONTROLLER), ask], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as controller:
        assert controller.stdout is not None
        controller.stdout.readline()
        try:
            controller.wait(after_s)
        except subprocess.TimeoutExpired:
            controller.send_signal(signal.SIGKILL)
