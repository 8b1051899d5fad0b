"""The proof on a whole site: green where nothing leaves, red for one node and for one user, checked elsewhere."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from practice.proof import prove
from practice.site import BIN, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

SERVE_UID = 2001


def test_a_finished_site_is_isolated_and_everybody_has_tried(site: PracticeSite) -> None:
    proof = prove(site)

    assert proof["verdict"] == "isolated", proof["reasons"]
    assert proof["packets_outside"] == 0
    tried = {(context["node"], context["context"].partition(" ")[0]) for context in proof["contexts"]}
    nodes = {node.name for node in site.lab.nodes()}
    assert {(node, kind) for node in nodes for kind in ("root", "user")} <= tried
    assert {("gpu1", "slurm"), ("gpu2", "slurm")} <= tried
    assert {node for node, kind in tried if kind == "replica"} & {"gpu1", "gpu2"}
    assert all(context["attempts"] == context["blocked"] > 50 for context in proof["contexts"])


def test_an_opened_node_is_red_and_the_trap_has_its_packets_until_it_is_closed(site: PracticeSite) -> None:
    with _opened(site, "gpu2", "nft delete table inet redoubt_boundary"):
        proof = prove(site)
        wait_for(lambda: _open_incident(site, "gpu2"), "the incident", within_s=30)
        wait_for(lambda: _open_incident(site, "site"), "the incident of the site", within_s=30)

    assert proof["verdict"] == "leaking"
    assert proof["packets_outside"] > 0
    assert any("the kernel of gpu2 has no boundary" in reason for reason in proof["reasons"])
    assert any(reason.startswith("gpu2, root: ") for reason in proof["reasons"])
    assert any("the trap heard 10.77.0.12" in reason for reason in proof["reasons"])
    assert not any(reason.startswith(("gpu1", "ctl1", "store1")) for reason in proof["reasons"])
    site.lab.ssh("gpu2", "systemctl start redoubt-prove.service", timeout_s=120)
    wait_for(lambda: not _open_incident(site, "gpu2"), "the incident to close", within_s=30)
    assert _open_incident(site, "site")
    again = prove(site)
    assert again["verdict"] == "isolated", again["reasons"]
    wait_for(lambda: not _open_incident(site, "site"), "the incident of the site to close", within_s=30)
    events = [event["event"] for event in site.redoubt_json("audit", "list")]
    assert {"incident.opened", "incident.closed"} <= {event.replace("reopened", "opened") for event in events}


def test_a_hole_for_one_user_is_red_for_that_user_alone(site: PracticeSite) -> None:
    rule = f"nft insert rule inet redoubt_boundary {_output_chain(site)} meta skuid {SERVE_UID} udp dport 53 accept"
    with _opened(site, "gpu1", rule):
        proof = prove(site)

    assert proof["verdict"] == "leaking"
    leaking = {(context["node"], context["uid"]) for context in proof["contexts"] if context["leaked"]}
    assert leaking == {("gpu1", SERVE_UID)}
    assert {"user redoubt-serve", "slurm job"} <= {c["context"] for c in proof["contexts"] if c["leaked"]}
    assert any("udp 192.0.2.1 53" in reason for reason in proof["reasons"])


def test_a_trap_that_is_not_awake_proves_nothing_and_is_told(site: PracticeSite) -> None:
    proof = prove(site, "--trap", "false")
    wait_for(lambda: _open_incident(site, "site", "boundary-unproven"), "the incident", within_s=30)

    assert proof["verdict"] == "inconclusive"
    assert proof["packets_outside"] is None
    assert any("did not hear the canary" in reason for reason in proof["reasons"])
    assert prove(site)["verdict"] == "isolated"
    wait_for(lambda: not _open_incident(site, "site", "boundary-unproven"), "the incident to close", within_s=30)


def test_the_proof_holds_on_another_machine_and_no_flipped_byte_does(site: PracticeSite, tmp_path: Path) -> None:
    proof = prove(site)
    elsewhere, authority = tmp_path / "proof.json", tmp_path / "ca.crt"
    shutil.copy(proof["proof"], elsewhere)
    shutil.copy(site.ca, authority)

    good = _verify(elsewhere, authority, "--site", str(site.spec))
    content = bytearray(elsewhere.read_bytes())
    content[len(content) // 2] ^= 1
    elsewhere.write_bytes(content)
    bad = _verify(elsewhere, authority)

    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["verdict"] == "isolated"
    assert bad.returncode in (2, 3)
    assert "next:" in bad.stderr


def test_the_timer_of_every_node_waits_for_the_next_proof(site: PracticeSite) -> None:
    for node in site.lab.nodes():
        assert site.lab.ssh(node.name, "systemctl is-active redoubt-prove.timer").stdout.strip() == "active"


@contextmanager
def _opened(site: PracticeSite, node: str, command: str) -> Iterator[None]:
    """Open a node's boundary, and close it again whatever happens."""
    site.lab.ssh(node, command)
    try:
        yield
    finally:
        site.lab.ssh(node, "nft --file /etc/redoubt/boundary/active.nft")


def _output_chain(site: PracticeSite) -> str:
    tables = json.loads(site.lab.ssh("gpu1", "nft -j list table inet redoubt_boundary").stdout)["nftables"]
    chains = (item["chain"] for item in tables if "chain" in item)
    return next(str(chain["name"]) for chain in chains if chain.get("hook") == "output")


def _open_incident(site: PracticeSite, subject: str, kind: str = "boundary-leak") -> bool:
    found = site.redoubt_json("incident", "list")
    return any((one["kind"], one["subject"]) == (kind, subject) for one in found)


def _verify(proof: Path, authority: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "redoubt"), "verify", str(proof), "--ca", str(authority), "--json", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=proof.parent)
