"""GPUs are cut as declared, by the unmodified pynvml on the simulated driver library, in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any  # JSON

import pytest
from lab.nvml import build_library

from tests.support.source import ROOT

SEVEN = ["1g.10gb"] * 7


class Node:
    """A simulated node and the command that cuts its GPUs."""

    def __init__(self, state: Path, library: Path) -> None:
        self.state = state
        self.surroundings = {"LD_LIBRARY_PATH": str(library.parent), "REDOUBT_SIM_NVML_STATE": str(state)}

    def run(self, verb: str, *layout: dict[str, object], code: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "controlplane.main.gpu_layout", verb, json.dumps(layout)],
            cwd=ROOT,
            env=self.surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def found(self, *layout: dict[str, object], code: int = 0) -> list[list[str]]:
        return [gpu["found"] for gpu in self.run("show", *layout, code=code)["gpus"]]

    def instances(self) -> list[str]:
        return re.findall(r"^gpu\.\d+\.mig\.\d+ = .*", self.state.read_text(), flags=re.MULTILINE)

    def edit(self, change: str, into: str) -> None:
        """Change the state as `redoubt practice gpu` does: in a file that replaces the old one."""
        text, count = re.subn(change, into, self.state.read_text(), flags=re.MULTILINE)
        assert count
        fresh = self.state.with_name("fresh")
        fresh.write_text(text)
        fresh.replace(self.state)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_library()


@pytest.fixture
def node(tmp_path: Path, library: Path) -> Node:
    """Give a node with two H100."""
    return make_node(tmp_path, library, "h100")


def make_node(folder: Path, library: Path, board: str) -> Node:
    script = str(ROOT / "images/practice/gpu_state.py")
    words = [sys.executable, script, board, "--count", "2", "--seed", "gpu1"]
    state = folder / "nvml.state"
    state.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return Node(state, library)


def h100(count: int, *mig: str) -> dict[str, object]:
    return {"type": "h100", "count": count, "mig": mig}


def test_a_gpu_is_cut_as_declared_and_read_back(node: Node):
    told = node.run("apply", h100(2, *SEVEN))

    assert (told["done"], told["changed"], told["problem"]) == (True, True, "")
    assert node.found(h100(2, *SEVEN)) == [SEVEN, SEVEN]


def test_applied_twice_is_applied_once(node: Node):
    node.run("apply", h100(2, *SEVEN))
    before = node.state.read_bytes()

    told = node.run("apply", h100(2, *SEVEN))

    assert (told["done"], told["changed"]) == (True, False)
    assert node.state.read_bytes() == before


def test_at_boot_the_layout_is_read_from_a_file(node: Node, tmp_path: Path):
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps([h100(2, *SEVEN)]))
    words = [sys.executable, "-m", "controlplane.main.gpu_layout", "apply", f"@{layout}"]

    subprocess.run(words, cwd=ROOT, env=node.surroundings, check=True, capture_output=True)
    missing = subprocess.run([*words[:-1], "@/none"], cwd=ROOT, env=node.surroundings, check=False, capture_output=True)

    assert node.found(h100(2, *SEVEN)) == [SEVEN, SEVEN]
    assert (missing.returncode, b"No such file" in missing.stderr) == (2, True)


def test_the_entries_of_a_type_go_to_its_gpus_in_order(node: Node):
    layout = (h100(1, "3g.40gb", "4g.40gb"), h100(1))

    node.run("apply", *layout)

    assert node.found(*layout) == [["3g.40gb", "4g.40gb"], []]


def test_another_layout_replaces_the_first_and_none_makes_it_whole(node: Node):
    node.run("apply", h100(2, *SEVEN))
    node.run("apply", h100(2, "2g.20gb", "2g.20gb", "3g.40gb"))
    mixed = node.found(h100(2, "2g.20gb", "2g.20gb", "3g.40gb"))

    told = node.run("apply", h100(2))

    assert mixed == [["2g.20gb", "2g.20gb", "3g.40gb"]] * 2
    assert (told["done"], node.instances()) == (True, [])
    assert "gpu.0.mig_mode = 0" in node.state.read_text()


@pytest.mark.parametrize("writes", [0, 1, 2, 7, 14, 15, 16, 29])
def test_a_cut_that_was_killed_half_way_is_finished_by_the_next(node: Node, writes: int):
    """Let the driver library take some changes only, as if the command was killed after them."""
    program = (
        "import os, sys, pynvml\n"
        "from controlplane.main import gpu_layout\n"
        "left = [int(sys.argv.pop())]\n"
        "def stop_after(call):\n"
        "    def counted(*words):\n"
        "        if left[0] == 0: os._exit(137)\n"
        "        left[0] -= 1\n"
        "        return call(*words)\n"
        "    return counted\n"
        "for name in ('nvmlDeviceSetMigMode', 'nvmlDeviceCreateGpuInstanceWithPlacement',"
        " 'nvmlGpuInstanceCreateComputeInstance'):\n"
        "    setattr(pynvml, name, stop_after(getattr(pynvml, name)))\n"
        "sys.exit(gpu_layout.main())\n"
    )
    words = [sys.executable, "-c", program, "apply", json.dumps([h100(2, *SEVEN)]), str(writes)]
    killed = subprocess.run(words, cwd=ROOT, env=node.surroundings, capture_output=True, check=False)
    assert killed.returncode == 137, killed.stderr

    shown = node.run("show", h100(2, *SEVEN), code=1)
    told = node.run("apply", h100(2, *SEVEN))

    assert shown["done"] is False
    assert (told["done"], node.found(h100(2, *SEVEN))) == (True, [SEVEN, SEVEN])


def test_an_instance_that_no_job_can_use_takes_its_part_of_the_board_and_is_cleared_away(node: Node):
    node.run("apply", h100(2, "3g.40gb"))
    node.edit(r"^gpu\.0\.minor", "gpu.0.mig.9 = 0 6 0\ngpu.0.minor")  # made, and its maker died before it was usable

    shown = node.run("show", h100(2, "3g.40gb"), code=1)
    node.run("apply", h100(2, "3g.40gb"))

    assert [gpu["is_done"] for gpu in shown["gpus"]] == [False, True]
    assert len(node.instances()) == 2


def test_a_gpu_that_somebody_uses_is_not_touched(node: Node):
    node.edit(r"^gpu\.0\.minor", "gpu.0.process.1 = 4711 1024\ngpu.0.minor")

    told = node.run("apply", h100(2, *SEVEN), code=1)

    assert "is in use; drain the node" in told["problem"]
    assert node.instances() == []


def test_a_profile_that_the_board_does_not_offer_is_refused_with_those_it_has(node: Node):
    told = node.run("apply", h100(2, "1g.5gb"), code=1)

    assert "does not offer 1g.5gb, only 1g.10gb" in told["problem"]
    assert "gpu.0.mig_mode = 0" in node.state.read_text()


def test_more_than_the_board_holds_is_refused_before_anything_is_cut(node: Node):
    node.run("apply", h100(2, *SEVEN))

    told = node.run("apply", h100(2, "4g.40gb", "4g.40gb"), code=1)

    assert "2 x 4g.40gb are more than GPU" in told["problem"]
    assert node.found(h100(2, *SEVEN)) == [SEVEN, SEVEN]


def test_fewer_gpus_than_declared_are_told(node: Node):
    assert "3 x h100 declared, 2 left to cut" in node.run("apply", h100(3, *SEVEN), code=1)["problem"]


def test_a_mode_that_waits_for_a_reset_is_told_and_done_after_it(node: Node):
    node.edit(r"^gpu\.0\.mig_pending = 0", "gpu.0.mig_pending = 1")  # somebody asked for it while the GPU was used

    assert node.run("show", h100(2), code=1)["gpus"][0]["is_done"] is False
    assert node.run("apply", h100(2))["done"] is True


def test_a_board_without_mig_is_whole(tmp_path: Path, library: Path):
    node = make_node(tmp_path, library, "a10")

    assert node.run("apply", {"type": "a10", "count": 2})["done"] is True
    assert "only no MIG" in node.run("apply", {"type": "a10", "count": 2, "mig": ["1g.6gb"]}, code=1)["problem"]


def test_the_agent_reports_the_instances(node: Node, tmp_path: Path):
    node.run("apply", h100(1, "3g.40gb"), h100(1))
    config = tmp_path / "agent.toml"
    config.write_text('[control_plane]\nurl = "https://localhost:1"\n')

    done = subprocess.run(
        [sys.executable, "-m", "controlplane.main.agent", "--config", config, "--once"],
        cwd=ROOT,
        env=node.surroundings,
        capture_output=True,
        text=True,
        check=True,
    )
    cut, whole = json.loads(done.stdout)["gpus"]

    assert [(mig["profile"], mig["memory_total_bytes"] >> 20) for mig in cut["mig"]] == [("3g.40gb", 40448)]
    assert cut["mig"][0]["uuid"].startswith("MIG-")
    assert (cut["utilisation_percent"], whole["mig"], whole["utilisation_percent"]) == (None, None, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_the_right_to_change_the_board_it_says_so(node: Node):
    node.state.parent.chmod(0o500)

    told = node.run("apply", h100(2, *SEVEN), code=1)

    node.state.parent.chmod(0o700)
    assert "Insufficient Permissions" in told["problem"]
