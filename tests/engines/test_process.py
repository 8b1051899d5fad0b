"""The process engine: the promises of every engine, and its own."""

import asyncio
import json
import os
from dataclasses import replace

import pytest

from controlplane.engines.port import EndWarning, EngineState
from controlplane.kit.errors import BadInput, Refused, Unavailable
from controlplane.kit.nvml import Gpu
from tests.engines.benches import ProcessBench, boot_seconds, process_engine
from tests.engines.conformance import EngineConformance, end, has_ended, shell, until

FOUR_GPUS = tuple(Gpu(n, n, f"GPU-{n}", "NVIDIA H100 80GB HBM3") for n in range(4))


@pytest.fixture
def bench(tmp_path):
    return ProcessBench(tmp_path / "engine")


class TestProcessEngine(EngineConformance):
    pass


async def test_a_pid_that_was_given_to_somebody_else_is_not_taken_for_the_run(bench):
    order = shell("sleep 60")
    await bench.connect().start(order)
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    record = json.loads((bench.state_dir / f"{order.name}.json").read_text())
    (bench.state_dir / "other.json").write_text(
        json.dumps(record | {"name": "other", "pid": bystander.pid, "start_ticks": record["start_ticks"] - 1})
    )

    await bench.connect().stop("other", grace_s=0)
    observed = await bench.connect().observe()

    assert observed["other"].state is EngineState.ENDED
    assert observed[order.name].state is EngineState.RUNNING
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()
    await end(bench, order.name)


async def test_what_a_run_leaves_behind_ends_with_it(bench):
    order = shell("sleep 60 & echo $!; exec true")
    await bench.connect().start(order)

    ended = await until(bench, order.name, has_ended)

    left_behind = int(bench.read_log(ended))
    await gone(left_behind)


async def test_a_run_past_its_time_limit_is_stopped(bench):
    order = replace(shell("exec sleep 60"), time_limit_s=0)

    await bench.connect().start(order)

    assert "time limit" in (await until(bench, order.name, has_ended)).reason


async def test_a_run_that_ended_is_forgotten_after_an_hour(bench):
    order = shell("true")
    await bench.connect().start(order)
    await until(bench, order.name, has_ended)

    later = process_engine(bench.state_dir, clock=lambda: boot_seconds() + 3700)

    assert await later.observe() == {}
    assert [path.name for path in bench.state_dir.iterdir()] == ["lock"]


async def test_gpus_in_use_are_not_given_twice_and_the_reasons_name_each(bench):
    engine = process_engine(bench.state_dir, find_gpus=lambda: FOUR_GPUS)
    first = replace(shell("echo $CUDA_VISIBLE_DEVICES; exec sleep 60"), gpus=3, gpu_type="h100")
    await engine.start(first)
    run = await until(bench, first.name, lambda run: bench.read_log(run) != "")

    with pytest.raises(Refused) as refused:
        await engine.start(replace(shell("true"), gpus=2, gpu_type="h100"))

    assert bench.read_log(run).strip() == "GPU-0,GPU-1,GPU-2"
    assert refused.value.reasons == tuple(f"GPU-{n}: used by {first.name}" for n in range(3))
    await end(bench, first.name)


async def test_gpus_of_another_type_are_not_given(bench):
    engine = process_engine(bench.state_dir, find_gpus=lambda: FOUR_GPUS[:1])

    with pytest.raises(Refused) as refused:
        await engine.start(replace(shell("true"), gpus=1, gpu_type="a10"))

    assert refused.value.reasons == ("GPU-0: is a NVIDIA H100 80GB HBM3, not a a10",)


async def test_a_run_without_gpus_sees_none(bench):
    order = shell('echo "[$CUDA_VISIBLE_DEVICES]"')

    await process_engine(bench.state_dir, find_gpus=lambda: FOUR_GPUS).start(order)

    assert bench.read_log(await until(bench, order.name, has_ended)) == "[]\n"


async def test_a_run_tells_which_devices_it_has_also_after_another_engine_looks(bench):
    engine = process_engine(bench.state_dir, find_gpus=lambda: FOUR_GPUS)
    order = replace(shell("sleep 60"), gpus=2, gpu_type="h100")

    await engine.start(order)

    assert (await bench.connect().observe())[order.name].gpu_indexes == (0, 1)
    await end(bench, order.name)


async def test_a_record_of_an_older_redoubt_is_read(bench):
    order = shell("sleep 60")
    await bench.connect().start(order)
    path = bench.state_dir / f"{order.name}.json"
    kept = json.loads(path.read_text())
    known = ("name", "boot", "pid", "start_ticks", "gpus", "started_at_s", "time_limit_s", "kill_at_s", "ended_at_s")
    path.write_text(json.dumps({field: kept[field] for field in known}))

    assert (await bench.connect().observe())[order.name].state is EngineState.RUNNING
    await end(bench, order.name)


async def test_the_log_of_a_run_with_a_folder_is_there_and_stays(bench, tmp_path):
    order = replace(shell("pwd"), folder=str(tmp_path / "of the project"))
    await bench.connect().start(order)
    await until(bench, order.name, has_ended)

    await process_engine(bench.state_dir, clock=lambda: boot_seconds() + 3700).observe()

    assert (tmp_path / "of the project" / f"{order.name}.log").read_text() == f"{tmp_path / 'of the project'}\n"


async def test_a_signal_that_is_none_is_refused(bench):
    with pytest.raises(BadInput, match="no signal"):
        await bench.connect().start(replace(shell("true"), warning=EndWarning("USR9", 10)))


async def test_a_host_to_be_avoided_is_avoided(bench):
    with pytest.raises(Refused, match="here is to be avoided"):
        await bench.connect().start(replace(shell("true"), avoid_nodes=("here",)))


async def test_a_command_that_is_not_there_ends_with_its_name_in_the_log(bench):
    order = replace(shell(""), argv=("no-such-command",))
    await bench.connect().start(order)

    ended = await until(bench, order.name, has_ended)

    assert bench.read_log(ended) == "no-such-command: No such file or directory\n"


async def test_a_torn_record_stops_the_engine_from_guessing(bench):
    await bench.connect().observe()
    (bench.state_dir / "torn.json").write_text('{"name": "torn"')

    with pytest.raises(Unavailable, match=r"torn\.json"):
        await bench.connect().observe()


async def gone(pid: int) -> None:
    for _time in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{pid} is still there")
