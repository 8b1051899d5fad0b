"""A node's GPUs are cut only while Slurm gives it no work: the role's own tasks, run on this machine."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from lab.nvml import build_library

from tests.support.source import ROOT

ROLE = ROOT / "playbooks/roles/gpu_layout/tasks"
LAYOUT = [{"type": "h100", "count": 2, "mig": ["3g.40gb", "3g.40gb"]}]


@dataclass
class Node:
    """This machine with two simulated H100 and a `sinfo` that says what the test wants."""

    folder: Path
    library: Path

    def __post_init__(self) -> None:
        script = str(ROOT / "images/practice/gpu_state.py")
        words = [sys.executable, script, "h100", "--count", "2", "--seed", "gpu1"]
        self.state.write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    @property
    def state(self) -> Path:
        return self.folder / "nvml.state"

    @property
    def is_cut(self) -> bool:
        return self.state.read_text().count("= 2 4 1") + self.state.read_text().count("= 2 0 1") == 4

    def say(self, state: str, code: int = 0) -> None:
        sinfo = self.folder / "sinfo"
        sinfo.write_text(f"#!/bin/sh\necho '{state}'\nexit {code}\n")
        sinfo.chmod(0o755)

    def cut(self) -> subprocess.CompletedProcess[str]:
        given = {
            "__gpu_layout_python": sys.executable,
            "__gpu_layout_sinfo": str(self.folder / "sinfo"),
            "__gpu_layout_wanted": LAYOUT,
        }
        tasks = [{"name": "Cut", "ansible.builtin.import_tasks": str(ROLE / "cut.yml")}]
        play = {"name": "Cut", "hosts": "localhost", "gather_facts": False, "vars": given, "tasks": tasks}
        book = self.folder / "play.yml"
        book.write_text(yaml.safe_dump([play]))
        surroundings = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(self.library.parent),
            "REDOUBT_SIM_NVML_STATE": str(self.state),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(self.folder),
        }
        words = ["ansible-playbook", "--connection=local", "--inventory=localhost,", str(book)]
        words += ["--extra-vars", json.dumps({"ansible_python_interpreter": sys.executable})]
        return subprocess.run(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            cwd=ROOT,
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, build_library())


@pytest.mark.parametrize("state", ["idle", "mixed", "allocated", "draining", "drng@", "completing", "reserved"])
def test_a_node_that_may_have_work_is_refused_with_the_next_command(node: Node, state: str):
    node.say(state)

    done = node.cut()

    assert done.returncode != 0
    assert f"Slurm says of this node: {state}" in " ".join(done.stdout.split())
    assert "scontrol update nodename=localhost state=drain reason=gpu_layout" in " ".join(done.stdout.split())
    assert not node.is_cut


@pytest.mark.parametrize("state", ["drained", "drained*", "down", ""])
def test_a_node_that_is_drained_or_not_known_to_slurm_is_cut(node: Node, state: str):
    node.say(state)

    done = node.cut()

    assert done.returncode == 0, done.stdout
    assert "changed=1" in done.stdout
    assert node.is_cut


def test_a_node_without_slurm_is_cut(node: Node):
    assert node.cut().returncode == 0
    assert node.is_cut


def test_a_controller_that_does_not_answer_means_no(node: Node):
    node.say("", code=1)

    assert node.cut().returncode != 0
    assert not node.is_cut


def test_what_goes_wrong_is_told(node: Node):
    node.state.write_text(node.state.read_text() + "gpu.1.process.1 = 4711 1024\n")

    done = node.cut()

    assert done.returncode != 0
    assert "is in use; drain the node" in done.stdout.replace("\\", "")
