"""Plan, apply and what interrupts them, on a whole practice site."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from practice.site import PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

CHRONY, AGENT, SLURMD = "/etc/chrony/chrony.conf", "/etc/redoubt/agent.toml", "/etc/default/slurmd"
ALWAYS = {"Preflight", "Preflight facts", "Preflight verdict", "Preflight of the nodes", "Finish"}
EDIT = "printf '# by hand\\n' >>"


def test_a_run_that_believes_the_stamps_evaluates_no_stage_and_changes_nothing(site: PracticeSite) -> None:
    site.install()
    assert site.install() == 0
    stages = {stage["name"] for stage in site.runs()[-1]["stages"] if stage["ran"]}
    assert stages <= ALWAYS


def test_an_apply_that_is_killed_anywhere_is_finished_by_the_next(site: PracticeSite) -> None:
    chance = random.Random(os.getpid())
    site.install()
    for node in site.lab.nodes():
        site.lab.ssh(node.name, f"rm -f /var/lib/redoubt-stages/*.json; {EDIT} {CHRONY}; {EDIT} {AGENT}")
    for _ in range(3):
        with _running(site.start_install()) as killed:
            time.sleep(chance.uniform(3, 45))
            assert killed.poll() is None, killed.communicate()[1]
            _kill_with_children(killed)

    site.install()
    assert site.install("--all") == 0
    assert site.ask().text
    assert all("by hand" not in site.lab.ssh(node.name, f"cat {CHRONY} {AGENT}").stdout for node in site.lab.nodes())


def test_a_power_cut_in_the_middle_of_an_apply_is_finished_by_the_next(site: PracticeSite) -> None:
    site.lab.ssh("store1", f"rm -f /var/lib/redoubt-stages/*.json; {EDIT} {CHRONY}")
    with _running(site.start_install()) as cut_off:
        time.sleep(8)
        site.lab.power_cut("store1")
        assert cut_off.wait(timeout=300) == 1
    site.lab.start("store1")

    site.install()
    assert site.install("--all") == 0
    wait_for(site.answers, "an answer")


def test_a_plan_names_what_restarts_and_apply_holds_to_it(site: PracticeSite, tmp_path: Path) -> None:
    kept = tmp_path / "plan.json"
    site.install()
    site.lab.ssh("gpu2", f"{EDIT} {SLURMD}")
    plan = site.plan_json("--stage", "slurm", "--limit", "gpu2", "--out", str(kept))
    assert [(one["host"], one["unit"]) for one in plan["restarts"]] == [("gpu2", "slurmd.service")]
    assert [drain["node"] for drain in plan["drains"]] == ["gpu2"]
    assert json.loads(kept.read_text())["digest"] == plan["digest"]

    site.lab.ssh("gpu2", f"{EDIT} {SLURMD}")
    refused = site.try_install("--limit", "gpu2", "--plan", str(kept))
    assert refused.returncode == 3
    assert f"gpu2: {SLURMD} changed" in refused.stderr

    again = site.plan_json("--stage", "slurm", "--limit", "gpu2")
    assert site.install("--limit", "gpu2", "--plan", again["digest"][:16]) > 0
    assert "by hand" not in site.lab.ssh("gpu2", f"cat {SLURMD}").stdout


def test_a_second_apply_is_refused_while_the_first_runs(site: PracticeSite) -> None:
    with _running(site.start_install("--stage", "node_time")) as first:
        wait_for(lambda: _unfinished(site), "the first run's record")
        second = site.try_install()
        assert second.returncode == 3
        assert "another apply of this site is running" in second.stderr
        assert first.wait(timeout=300) == 0


def test_an_apply_that_is_told_to_stop_says_where_it_stood_and_what_to_do(site: PracticeSite) -> None:
    with _running(site.start_install("--stage", "node_time")) as stopped:
        wait_for(lambda: _unfinished(site), "the run's record")
        time.sleep(2)
        stopped.send_signal(signal.SIGTERM)
        _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 1
    assert "redoubt: stopped " in said
    assert "next: the same command goes on there" in said
    assert site.install() >= 0


def test_the_others_finish_when_one_node_is_silent_and_that_is_asked_for(site: PracticeSite) -> None:
    site.install()
    for node in ("gpu2", "store1"):
        site.lab.ssh(node, f"{EDIT} {CHRONY}")
    site.lab.freeze("store1")
    try:
        done = site.try_install("--stage", "node_time", "--keep-going")
    finally:
        site.lab.thaw("store1")
    assert done.returncode == 1
    assert "store1" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
    assert "by hand" not in site.lab.ssh("gpu2", f"cat {CHRONY}").stdout
    assert "by hand" in site.lab.ssh("store1", f"cat {CHRONY}").stdout
    site.install()
    assert "by hand" not in site.lab.ssh("store1", f"cat {CHRONY}").stdout


@contextmanager
def _running(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        if process.poll() is None:
            _kill_with_children(process)
        process.communicate()


def _kill_with_children(process: "subprocess.Popen[str]") -> None:
    """Kill the command and the Ansible it started, which has a session of its own. Stopped, it starts no other."""
    process.send_signal(signal.SIGSTOP)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)


def _unfinished(site: PracticeSite) -> bool:
    return site.runs()[-1]["outcome"] == "unfinished"
