"""The boundary of a whole site: what hands change is found, and a mistake does not lock the engineer out."""

import subprocess
from pathlib import Path

import pytest
from lab.errors import LabError
from lab.shell import wait_until
from practice.site import SPEC, PracticeSite

pytestmark = [pytest.mark.system, pytest.mark.slow]

TABLE = "inet redoubt_boundary"
REVERTS_WITHIN_S = 90


def test_a_rule_changed_by_hand_is_in_the_plan_and_the_next_apply_puts_it_right(site: PracticeSite) -> None:
    site.lab.ssh("gpu2", f"nft insert rule {TABLE} outbound ip daddr 203.0.113.0/24 accept")

    planned, changed, left = site.plan(), site.install(), site.plan()

    assert (planned > 0, changed > 0, left) == (True, True, 0)
    assert "203.0.113" not in site.lab.ssh("gpu2", f"nft list table {TABLE}").stdout


def test_a_table_that_rewrites_addresses_is_refused_and_left_alone(site: PracticeSite) -> None:
    site.lab.ssh("gpu2", "nft 'table ip mine { chain rewrite { type nat hook output priority -100; }; }'")

    refused = site.try_install()
    left = site.lab.ssh("gpu2", "nft list table ip mine", check=False).returncode
    site.lab.ssh("gpu2", "nft delete table ip mine")

    assert refused.returncode == 1
    assert "ip mine rewrites addresses" in refused.stdout + refused.stderr
    assert left == 0


def test_a_spec_that_locks_ssh_out_takes_itself_back(site: PracticeSite, tmp_path: Path) -> None:
    mistaken = tmp_path / "site.yml"
    mistaken.write_text(SPEC.read_text().replace("controller: 10.77.0.1", "controller: 10.77.0.2"))

    with pytest.raises(LabError):
        PracticeSite(site.lab.name, mistaken).install()

    assert wait_until(lambda: open_to_ssh(site), timeout_s=REVERTS_WITHIN_S, pause_s=1)
    assert site.answers()
    site.install()
    assert site.plan() == 0


def open_to_ssh(site: PracticeSite) -> bool:
    """Say whether every node takes a new connection of the controller."""
    try:
        return all(site.lab.ssh(node.name, "true", timeout_s=5).returncode == 0 for node in site.lab.nodes())
    except (LabError, subprocess.TimeoutExpired):
        return False
