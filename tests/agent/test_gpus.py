"""The agent as it runs on a node: its own process, the unmodified pynvml, the simulated driver library."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.nvml import build_library

from controlplane.contracts.agent import NodeReport
from tests.support.certificates import issue, make_site_ca
from tests.support.machine_api import machine_api
from tests.support.source import ROOT

AGENT = (sys.executable, "-m", "controlplane.main.agent", "--config")


@pytest.fixture(scope="session")
def library() -> Path:
    return build_library()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Two healthy H100."""
    return write_state(tmp_path, "h100", "--count", "2")


def write_state(folder: Path, *words: str) -> Path:
    script = ROOT / "images/practice/gpu_state.py"
    done = subprocess.run(
        [sys.executable, script, *words, "--seed", "gpu1"], check=True, capture_output=True, text=True
    )
    path = folder / "nvml.state"
    path.write_text(done.stdout)
    return path


@pytest.fixture
def surroundings(library: Path, state: Path) -> dict[str, str]:
    return {"LD_LIBRARY_PATH": str(library.parent), "REDOUBT_SIM_NVML_STATE": str(state)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text('[control_plane]\nurl = "https://localhost:1"\n')
    return path


def look(config: Path, surroundings: dict[str, str]) -> NodeReport:
    done = subprocess.run(
        [*AGENT, config, "--once"], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return NodeReport.model_validate_json(done.stdout)


def rewrite(state: Path, **values: int | None) -> None:
    """Change values of GPU 0, by a file that replaces the old one at once; None takes the reading away."""
    text = state.read_text()
    for key, value in values.items():
        line = "" if value is None else f"gpu.0.{key} = {value}\n"
        text = re.sub(rf"^gpu\.0\.{key} = .*\n", line, text, flags=re.MULTILINE)
    fresh = state.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(state)


def test_every_reading_of_a_gpu_is_in_the_report(config: Path, surroundings: dict[str, str], state: Path):
    rewrite(
        state,
        memory_used_mib=1024,
        utilisation_gpu=87,
        temperature_c=61,
        power_mw=350_400,
        dram_uncorrected_volatile=3,
        recovery_action=1,
    )

    report = look(config, surroundings)

    busy, idle = report.gpus
    assert report.driver == "580.95.05"
    assert (busy.index, busy.name, busy.pci_bus_id) == (0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")
    assert busy.uuid.startswith("GPU-")
    assert busy.uuid != idle.uuid
    assert (busy.serial or "").isdigit()
    assert busy.memory_total_bytes == 81559 << 20
    assert busy.memory_used_bytes - idle.memory_used_bytes == 1024 << 20
    assert (busy.utilisation_percent, busy.temperature_c, busy.power_w) == (87, 61, 350)
    assert (busy.ecc_uncorrected, busy.recovery_action) == (3, 1)
    assert (idle.ecc_uncorrected, idle.recovery_action) == (0, 0)


def test_a_reading_that_the_card_does_not_support_is_none(config: Path, surroundings: dict[str, str], state: Path):
    rewrite(state, temperature_c=None, power_mw=None, utilisation_gpu=None, recovery_action=None, serial=None)

    gpu, whole = look(config, surroundings).gpus

    assert (gpu.temperature_c, gpu.power_w, gpu.recovery_action, gpu.serial) == (None, None, None, None)
    assert whole.temperature_c == 32


def test_where_a_gpu_sits_and_what_it_is_is_in_the_report(config: Path, surroundings: dict[str, str]):
    first, second = look(config, surroundings).gpus

    assert (first.minor, second.minor) == (0, 1)
    assert (first.pcie_generation, first.pcie_generation_max, first.pcie_width, first.pcie_width_max) == (5, 5, 16, 16)
    assert (first.numa_node, second.numa_node) == (0, 1)
    assert (first.nvlink_island, second.nvlink_island, first.nvlinks_up) == (0, 0, 18)
    assert (first.vbios, first.compute_capability) == ("96.00.99.00.01", "9.0")
    assert (first.mig, first.mig_pending) == (None, False)


def test_nvlink_islands_are_found_by_the_far_ends_of_the_links(
    config: Path, surroundings: dict[str, str], state: Path, tmp_path: Path
):
    assert write_state(tmp_path, "a100", "--count", "8", "--island", "4") == state

    gpus = look(config, surroundings).gpus

    assert [gpu.nvlink_island for gpu in gpus] == [0, 0, 0, 0, 4, 4, 4, 4]


def test_a_gpu_whose_links_are_all_down_is_on_no_island(config: Path, surroundings: dict[str, str], state: Path):
    write_state(state.parent, "h100", "--count", "3")
    rewrite(state, nvlink_down_mask=(1 << 18) - 1)

    cut, *others = look(config, surroundings).gpus

    assert (cut.nvlinks_up, cut.nvlink_island) == (0, None)
    assert [gpu.nvlink_island for gpu in others] == [1, 1]


def test_a_board_without_nvlink_mig_or_numa_has_none_of_them(
    config: Path, surroundings: dict[str, str], state: Path, tmp_path: Path
):
    write_state(tmp_path, "a10", "--count", "2")
    rewrite(state, numa_node=None, vbios=None, minor=0)

    gpu = look(config, surroundings).gpus[0]

    assert (gpu.nvlink_island, gpu.nvlinks_up, gpu.mig, gpu.mig_pending) == (None, None, None, None)
    assert (gpu.numa_node, gpu.vbios) == (None, None)


def test_a_lost_gpu_is_named_and_the_others_are_still_read(config: Path, surroundings: dict[str, str], state: Path):
    rewrite(state, lost=1)

    report = look(config, surroundings)

    assert [(lost.index, lost.error) for lost in report.lost_gpus] == [(0, "GPU is lost")]
    assert [gpu.index for gpu in report.gpus] == [1]


def test_a_node_without_a_driver_reports_its_host(config: Path):
    report = look(config, {})

    assert (report.driver, report.gpus, report.lost_gpus) == ("", (), ())
    assert report.host.memory_total_bytes > 0


def test_a_driver_that_does_not_answer_is_reported_as_none(config: Path, surroundings: dict[str, str], state: Path):
    state.unlink()

    report = look(config, surroundings)

    assert (report.driver, report.gpus) == ("", ())


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], NodeReport | None]]]:
    """A settings file that names a real TLS api, and the newest report that arrived there."""
    ca = make_site_ca(tmp_path / "tls")
    node = issue(ca, "node", uri="redoubt://test/zone/eu-1/node/gpu1")
    with machine_api(issue(ca, "api")) as api:
        config = tmp_path / "agent.toml"
        tls = "\n".join(f"{key} = {json.dumps(str(path))}" for key, path in vars(node).items())
        config.write_text(f'period_s = 0.05\n[control_plane]\nurl = "{api.url}"\n[control_plane.tls]\n{tls}\n')
        yield config, lambda: NodeReport.model_validate_json(api.received[-1].body) if api.received else None


def test_a_gpu_lost_while_the_agent_runs_is_in_the_next_reports(linked, surroundings: dict[str, str], state: Path):
    config, newest = linked
    agent = subprocess.Popen([*AGENT, config], cwd=ROOT, env=surroundings)
    try:
        until(lambda: (seen := newest()) and len(seen.gpus) == 2)
        rewrite(state, lost=1)
        until(lambda: (seen := newest()) and len(seen.lost_gpus) == 1)
        rewrite(state, lost=0)
        until(lambda: (seen := newest()) and not seen.lost_gpus)
        agent.send_signal(signal.SIGTERM)
        ended = agent.wait(timeout=20)
    finally:
        agent.kill()
        agent.wait()

    assert ended == 0


def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    for _ in itertools.takewhile(lambda n: n * 0.02 < timeout_s, itertools.count()):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s")
