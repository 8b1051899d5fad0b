"""The boundary's allow-list says who talks to whom, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.sitespec.flows import flows, inbound, outbound
from controlplane.sitespec.spec import Site
from controlplane.sitespec.text import parse_site

SITE = parse_site(Path("inventory/practice/site.yml").read_text())
CONTROLLER = "10.77.0.1"


def rules(side, node: str) -> dict[str, tuple[str, ...]]:
    return {rule.name: rule.peers for rule in side(SITE, SITE.node(node))}


def test_ssh_comes_from_the_controller_alone():
    assert {rules(inbound, node.name)["ssh"] for node in SITE.nodes} == {(CONTROLLER,)}


def test_no_node_may_open_ssh_to_another():
    assert all("ssh" not in rules(outbound, node.name) for node in SITE.nodes)


def test_the_database_answers_the_control_plane_alone():
    assert rules(inbound, "store1")["database"] == ("10.77.0.10",)
    assert "database" not in rules(inbound, "gpu1")


def test_runners_answer_gateways_alone():
    assert rules(inbound, "gpu1")["runners"] == ("10.77.0.10",)


def test_a_store_opens_nothing_but_depot_time_and_the_machine_api():
    assert set(rules(outbound, "store1")) == {"depot", "time", "machine_api"}


def test_no_node_reaches_an_address_outside_the_site():
    site = {str(node.address) for node in SITE.nodes}

    assert all(set(peers) <= site for node in SITE.nodes for peers in rules(outbound, node.name).values())


@given(st.integers(min_value=0, max_value=8))
def test_what_one_node_may_open_the_other_lets_in(extra):
    site = grown(SITE, extra)
    nodes = {str(node.address) for node in site.nodes}

    opened = {
        (rule.name, str(node.address), peer)
        for node in site.nodes
        for rule in outbound(site, node)
        for peer in rule.peers
    }
    let_in = {
        (rule.name, peer, str(node.address))
        for node in site.nodes
        for rule in inbound(site, node)
        for peer in rule.peers
        if peer in nodes
    }

    assert opened == let_in


@pytest.mark.parametrize("flow", flows(SITE), ids=lambda flow: flow.name)
def test_every_flow_has_one_range_of_ports(flow):
    low, high = flow.ports

    assert 0 < low <= high < 65536


def grown(site: Site, extra: int) -> Site:
    more = [
        {"name": f"more{number}", "address": f"10.77.0.{20 + number}", "zone": "north", "cpus": 8, "memory_mb": 512,
         "gpus": ({"type": "a10", "count": 1},)}
        for number in range(extra)
    ]  # fmt: skip
    return Site.model_validate({**site.model_dump(), "nodes": [*(node.model_dump() for node in site.nodes), *more]})
