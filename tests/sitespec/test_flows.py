"""The boundary's allow-list says who talks to whom, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.sitespec.accounts import UIDS
from controlplane.sitespec.flows import flows, inbound, outbound, project_ports, project_services
from controlplane.sitespec.spec import Site
from controlplane.sitespec.text import parse_site

NAMES = ("a", "b", "c", "d", "e", "f")


@st.composite
def shuffled(draw):
    """Any valid site: some nodes, GPUs on some, every service anywhere."""
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    some = st.sampled_from(names)
    gpus = draw(st.sets(some, min_size=1))
    services = {name: draw(some) for name in ("depot", "authority", "time", "scheduler", "control_plane", "database")}
    gateways = draw(st.lists(some, min_size=1, max_size=3, unique=True))
    more = {"cpus": 8, "memory_mb": 512, "gpus": [{"type": "a10", "count": 1}]}
    nodes = [
        {"name": name, "address": f"10.1.0.{number}", "zone": "z", **(more if name in gpus else {})}
        for number, name in enumerate(names, start=10)
    ]
    network = {
        "range": "10.1.0.0/24",
        "controller": "10.1.0.1",
        "operators": ["10.2.0.0/28"],
        "clients": ["10.3.0.0/16"],
    }
    zones = [{"name": "z", "jurisdiction": "DE", "clearance": "internal"}]
    site = {"name": "s", "network": network, "zones": zones, "services": {**services, "gateways": gateways}}
    return Site.model_validate({**site, "nodes": nodes})


SITE = parse_site(Path("inventory/practice/site.yml").read_text())
CONTROLLER = "10.77.0.1"
PROJECTS = tuple(f"redoubt-p{slot:02d}" for slot in range(1, 17))


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


def test_a_store_opens_nothing_but_depot_time_the_machine_api_and_what_a_join_needs():
    services = SITE.services.model_copy(update={"scheduler_backup": None})
    site = SITE.model_copy(update={"services": services, "scheduler_state": None})

    assert {rule.name for rule in outbound(site, site.node("store1"))} == {"depot", "time", "agents_api", "joins_api"}


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


def test_every_flow_that_a_node_opens_names_its_users_and_no_other_does():
    nodes = {str(node.address) for node in SITE.nodes}

    assert all(bool(flow.users) == (set(flow.sources) <= nodes) for flow in flows(SITE))
    assert all(set(flow.users) <= UIDS.keys() for flow in flows(SITE))


@pytest.mark.parametrize(
    ("node", "opened"),
    [
        (
            "ctl1",
            {
                "database": ("redoubt", "root"),
                "runners": ("redoubt-gateway",),
                "slurmd_from_controller": ("slurm", "root"),
                "slurmctld_backup": ("slurm", "root", "slurmrestd", "redoubt"),
            },
        ),
        (
            "gpu1",
            {
                "depot": ("root", "_apt"),
                "time": ("_chrony",),
                "runs_api": ("redoubt-serve", *PROJECTS),
                "agents_api": ("redoubt-agent",),
                "joins_api": ("redoubt-agent",),
                "slurmctld": ("root",),
                "slurmd": ("root",),
                "job_steps": ("root",),
                "projects": PROJECTS,
            },
        ),
        (
            "store1",
            {
                "depot": ("root", "_apt"),
                "time": ("_chrony",),
                "agents_api": ("redoubt-agent",),
                "joins_api": ("redoubt-agent",),
                "slurmctld_primary": ("slurm", "root"),
                "slurmdbd": ("slurm", "root"),
                "slurmd_from_controller": ("slurm", "root"),
            },
        ),
    ],
)
def test_each_node_opens_this_for_these_users_and_nothing_else(node, opened):
    assert {rule.name: rule.users for rule in outbound(SITE, SITE.node(node))} == opened


def test_a_projects_job_may_speak_to_the_control_plane_and_projects_alone_and_not_to_slurm():
    may = {rule.name for rule in outbound(SITE, SITE.node("gpu1")) if "redoubt-p01" in rule.users}

    assert may == {"runs_api", "projects"}


@given(st.integers(min_value=1, max_value=99))
def test_no_two_projects_share_a_port_and_all_are_within_the_one_flow(slots):
    site = SITE.model_copy(update={"project_slots": slots})

    owned = [port for _, (low, high) in project_ports(site) for port in range(low, high + 1)]
    (low, high) = next(flow.ports for flow in flows(site) if flow.name == "projects")

    assert len(set(owned)) == len(owned) == 100 * slots
    assert (min(owned), max(owned)) == (low, high)
    others = [flow.ports for flow in flows(site) if flow.name != "projects"]
    assert not any(first <= high and last >= low for first, last in others)


def test_beside_their_own_ports_projects_open_on_their_node_the_api_where_that_is():
    assert {node.name: project_services(SITE, node) for node in SITE.nodes} == {
        "ctl1": (8443,), "gpu1": (), "gpu2": (), "store1": (),
    }  # fmt: skip


def test_a_replica_may_speak_to_the_control_plane_alone():
    may = {rule.name for rule in outbound(SITE, SITE.node("gpu1")) if "redoubt-serve" in rule.users}

    assert may == {"runs_api"}


def test_nobody_speaks_to_the_router():
    router = str(SITE.network.router)

    assert all(router not in (*flow.sources, *flow.destinations) for flow in flows(SITE))


@settings(max_examples=40)
@given(shuffled())
def test_whatever_the_site_a_rule_is_a_flow_between_declared_places(site):
    nodes = {str(node.address) for node in site.nodes}
    declared = {str(site.network.controller), *map(str, (*site.network.operators, *site.network.clients))}
    serving = {str(site.node(name).address) for _, name in site.services.placed()}
    compute = {str(node.address) for node in site.compute}

    for node in site.nodes:
        for rule in outbound(site, node):
            assert set(rule.peers) <= nodes - {str(node.address)}
            assert rule.users
        for rule in inbound(site, node):
            assert set(rule.peers) <= (nodes | declared) - {str(node.address)}
        if str(node.address) not in serving | compute:
            assert {rule.name for rule in inbound(site, node)} == {"ssh"}


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
