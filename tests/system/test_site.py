"""A whole practice site: real Slurm, PostgreSQL, inference server and firewall on four machines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from practice.proof import prove
from practice.site import BIN, ENDPOINT, PracticeSite

from tests.system.steps import api_status, wait_for

pytestmark = pytest.mark.system


def test_the_endpoint_answers_through_the_gateway(site: PracticeSite) -> None:
    assert site.ask().text


def test_a_second_run_of_the_playbooks_changes_nothing(site: PracticeSite) -> None:
    assert site.install("--all") == 0


def test_a_plan_of_a_finished_site_is_empty(site: PracticeSite) -> None:
    assert site.plan() == 0


def test_the_official_client_lists_models_and_streams(site: PracticeSite) -> None:
    words = [f"{site.gateway}/v1", site.inference_key(), str(site.ca), ENDPOINT]
    done = subprocess.run(
        [*site.lab.enter, sys.executable, "-m", "tests.support.openai_client", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["models"] == [ENDPOINT]
    assert seen["pieces"] > 1
    assert seen["answer"].strip()


def test_no_node_reaches_anything_outside_and_no_packet_left(site: PracticeSite) -> None:
    proof = prove(site)
    assert proof["verdict"] == "isolated", proof["reasons"]
    assert proof["packets_outside"] == 0
    assert site.ask().text


def test_a_wrong_key_and_an_unknown_model_are_refused_in_openais_shape(site: PracticeSite) -> None:
    wrong_key = _chat(site, "rdk_wrong", ENDPOINT)
    unknown = _chat(site, site.inference_key(), "nobody")
    assert wrong_key == (401, "invalid_api_key")
    assert unknown == (404, "model_not_found")


def test_serving_goes_on_while_the_control_plane_is_down_and_nothing_is_replaced_after(site: PracticeSite) -> None:
    before = _ready_replicas(site)
    site.lab.ssh("ctl1", "systemctl stop redoubt-api redoubt-reconciler")
    try:
        site.lab.ssh("ctl1", "sleep 14")  # longer than a lease
        assert site.ask().text
    finally:
        site.lab.ssh("ctl1", "systemctl start redoubt-api redoubt-reconciler")
    wait_for(lambda: api_status(site) == "up", "the api")
    site.lab.ssh("ctl1", "sleep 6")
    assert _ready_replicas(site) == before


@pytest.mark.parametrize("unit", ["redoubt-api", "redoubt-reconciler", "redoubt-gateway"])
def test_a_process_that_is_killed_comes_back_with_every_acknowledged_write(site: PracticeSite, unit: str) -> None:
    made = site.redoubt_json("key", "create", f"before the kill of {unit}")["key"]["id"]
    site.lab.ssh("ctl1", f"systemctl kill --signal=KILL {unit}")
    wait_for(lambda: api_status(site) == "up", "the api")
    assert made in {key["id"] for key in site.redoubt_json("key", "list")}
    wait_for(site.answers, "an answer")


def test_a_runner_that_is_killed_is_replaced_without_a_human(site: PracticeSite) -> None:
    (before,) = _ready_replicas(site)
    node = before[1]
    site.lab.ssh(node, "kill -9 $(pgrep -f controlplane.main.runner | head -1)")
    wait_for(lambda: [r for r in _ready_replicas(site) if r != before] != [], "another replica")
    wait_for(site.answers, "an answer")


def test_a_database_that_is_away_is_said_so_and_serving_goes_on(site: PracticeSite) -> None:
    site.lab.ssh("store1", "systemctl stop postgresql@17-main")
    try:
        said = _cli(site, "endpoint", "list")
        assert said.returncode == 1
        assert "cannot answer this now" in said.stderr  # the cause is in the log, for those who can mend it
        assert "next:" in said.stderr
        assert site.ask().text
    finally:
        site.lab.ssh("store1", "systemctl start postgresql@17-main")
    wait_for(lambda: api_status(site) == "up", "the api")


def test_a_lost_gpu_is_seen_in_the_fleet(site: PracticeSite) -> None:
    site.gpu("gpu2", "inject", "lost", "--gpu", "3")
    try:
        wait_for(lambda: _node_state(site, "gpu2") == "degraded", "the fault in the fleet")
    finally:
        site.gpu("gpu2", "inject", "reboot")
    wait_for(lambda: _node_state(site, "gpu2") == "ready", "gpu2 to be ready")


def test_a_node_that_does_not_answer_stops_the_playbooks_with_one_clear_message(site: PracticeSite) -> None:
    site.lab.freeze("store1")
    try:
        done = site.try_install()
    finally:
        site.lab.thaw("store1")
    assert done.returncode == 1
    assert "store1" in done.stderr.splitlines()[-2] + done.stderr.splitlines()[-1]
    wait_for(lambda: api_status(site) == "up", "the api")


def test_a_bundle_with_a_flipped_byte_is_refused_before_anything_is_touched(site: PracticeSite, tmp_path: Path) -> None:
    bad = tmp_path / "bundle.tar"
    content = bytearray(site.bundle.with_name("bundle.tar").read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    done = subprocess.run([BIN / "redoubt", "bundle", "verify", bad], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "next:" in done.stderr


def _chat(site: PracticeSite, key: str, model: str) -> tuple[int, str]:
    """Return the status and the error code."""
    words = [f"{site.gateway}/v1", key, str(site.ca), model]
    done = subprocess.run(
        [*site.lab.enter, sys.executable, "-m", "tests.support.chat_once", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, code = done.stdout.partition(" ")
    return int(status), code


def _cli(site: PracticeSite, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*site.lab.enter, "env", f"REDOUBT_PROFILE={site.profile}", str(BIN / "redoubt"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _ready_replicas(site: PracticeSite) -> list[tuple[str, str]]:
    endpoint = site.redoubt_json("endpoint", "show", ENDPOINT)
    return [(replica["id"], replica["node"]) for replica in endpoint["replicas"] if replica["state"] == "ready"]


def _node_state(site: PracticeSite, name: str) -> str:
    return str(site.redoubt_json("node", "show", name)["state"])
