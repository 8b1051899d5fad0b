"""Every check of preflight passes on a node that is right, fails on one that is not, and says when it cannot know."""

from pathlib import Path
from typing import Any

import pytest

from controlplane.sitespec.flows import flows
from controlplane.sitespec.preflight.judge import IDS, NODE_CHECKS, REACHABLE, judge
from controlplane.sitespec.preflight.site import CONTROL_CHECKS, SITE_CHECKS
from controlplane.sitespec.preflight.surroundings import OWNERS
from controlplane.sitespec.text import parse_site
from tests.sitespec.preflight.sample import BUNDLE, CONTROL, FACTS, GPU, NOW, SITE, interface, judged, node_facts

GPUS = node_facts("gpu1")["gpu.driver"]
LISTENER = {"protocol": "tcp", "port": 6818, "comm": "nc", "unit": "session-1.scope"}
FULL = {"/": {"free_bytes": 1 << 30, "free_inodes": 1_000_000, "inodes": 2_000_000, "read_only": 0}}
NO_INODES = {"/": {"free_bytes": 100 << 30, "free_inodes": 10, "inodes": 2_000_000, "read_only": 0}}
SHUT = {"/": {"free_bytes": 100 << 30, "free_inodes": 1_000_000, "inodes": 2_000_000, "read_only": 1}}
DISK = {"name": "sdb", "serial": "s1", "size_bytes": 1, "holds": "zfs_member", "in_use": False}

# id: (node, the facts that make it fail, a part of what is measured)
FAILING: dict[str, tuple[str, dict[str, Any], str]] = {
    "os.release": ("gpu1", {"os.release": "debian 12"}, "debian 12"),
    "os.architecture": ("gpu1", {"os.architecture": "aarch64"}, "aarch64"),
    "os.kernel": ("gpu1", {"os.kernel": {"running": "6.12.1", "newest": "6.12.9"}}, "6.12.1 runs"),
    "os.pending_reboot": ("gpu1", {"os.pending_reboot": ["/run/reboot-required"]}, "/run/reboot-required"),
    "os.packages_held": ("gpu1", {"os.packages": {"held": ["slurmd"], "broken": []}}, "slurmd"),
    "os.packages_broken": ("gpu1", {"os.packages": {"held": [], "broken": ["dkms"]}}, "dkms"),
    "os.sources": ("gpu1", {"os.sources": ["vendor.list: http://x"]}, "vendor.list"),
    "os.unattended_upgrades": ("gpu1", {"os.unattended_upgrades": True}, "on"),
    "os.driver_leftovers": ("gpu1", {"os.driver_leftovers": ["/var/lib/dkms/nvidia"]}, "dkms"),
    "os.nouveau": ("gpu1", {"os.modules": ["nouveau"]}, "loaded"),
    "os.tmp": ("gpu1", {"os.tmp_options": ["rw", "noexec"]}, "noexec"),
    "os.lsm": ("gpu1", {"os.lsm": ["capability"]}, "capability"),
    "os.cgroups": ("gpu1", {"os.cgroups": "v1"}, "v1"),
    "os.fips": ("gpu1", {"os.fips": "1"}, "on"),
    "os.failed_units": ("gpu1", {"os.failed_units": ["x.service"]}, "x.service"),
    "os.proxies": ("gpu1", {"os.proxies": ["/etc/environment: http://proxy"]}, "/etc/environment"),
    "node.hostname": ("gpu1", {"node.hostname": "localhost"}, "localhost"),
    "node.cpus": ("gpu1", {"node.cpus": 64}, "64"),
    "node.memory": ("gpu1", {"node.memory_mb": 515_000}, "515000"),
    "node.clock": ("gpu1", {"node.clock": {"offset_s": -3.0, "stratum": 9}}, "-3.000 s"),
    "node.time_plausible": ("gpu1", {"node.time": NOW - 90 * 86400}, "-89 days"),
    "firmware.secure_boot": ("gpu1", {"firmware.secure_boot": False}, "off"),
    "firmware.lockdown": ("gpu1", {"firmware.lockdown": "none integrity [confidentiality]"}, "confidentiality"),
    "firmware.tpm": ("gpu1", {"firmware.tpm": ""}, "none"),
    "firmware.iommu": ("gpu1", {"firmware.iommu": ["DMA-FQ"]}, "DMA-FQ"),
    "firmware.acs": ("gpu1", {"firmware.acs": ["0000:00:01.0"]}, "0000:00:01.0"),
    "firmware.power_profile": ("gpu1", {"firmware.governor": "powersave"}, "powersave"),
    "firmware.numa": ("gpu1", {"firmware.numa": {"nodes": 2, "unplaced": ["0000:1b:00.0"]}}, "0000:1b:00.0"),
    "gpu.count": ("gpu1", {"gpu.driver": GPUS[:7]}, "7 h100"),
    "gpu.undeclared": ("ctl1", {"gpu.bus": {"gpus": 2, "switches": 0, "manager": 0}}, "2 on the bus"),
    "gpu.lost": ("gpu1", {"gpu.driver": [*GPUS[:7], {"index": 7, "lost": 15}]}, "GPU 7"),
    "gpu.pcie_link": ("gpu1", {"gpu.driver": [*GPUS[:7], {**GPU, "index": 7, "width": 8}]}, "GPU 7 x8 of x16"),
    "gpu.memory_errors": ("gpu1", {"gpu.driver": [*GPUS[:7], {**GPU, "remap_failed": 1}]}, "remap failed"),
    "gpu.mig": ("gpu1", {"gpu.driver": [*GPUS[:7], {**GPU, "index": 7, "mig": 1}]}, "GPU 7"),
    "gpu.xids": ("gpu1", {"gpu.xids": ["PCI:0000:1b:00: Xid 79"]}, "Xid 79"),
    "gpu.holders": ("gpu1", {"gpu.holders": ["python (session-4)"]}, "python"),
    "gpu.fabric_manager": ("gpu1", {"gpu.bus": {"gpus": 8, "switches": 4, "manager": 0}}, "does not run"),
    "fabric.ports": ("gpu1", {"fabric.ports": [{"name": "mlx5_0/1", "state": "1: DOWN", "gids": []}]}, "mlx5_0/1 DOWN"),
    "fabric.link": ("gpu1", {"network.interfaces": [{**interface("10.20.0.21", "m"), "up": False}]}, "eth0 down"),
    "fabric.damaged_frames": (
        "gpu1",
        {"network.interfaces": [{**interface("10.20.0.21", "m"), "damaged": 12}]},
        "12 frames",
    ),
    "network.address": ("gpu1", {"network.interfaces": [interface("10.20.0.99", "m")]}, "10.20.0.99"),
    "network.nameservers": ("gpu1", {"network.nameservers": ["9.9.9.9"]}, "9.9.9.9"),
    "network.default_route": ("gpu1", {"network.default_routes": ["10.20.0.1 dev eth0"]}, "10.20.0.1 dev eth0"),
    "network.ports": ("gpu1", {"network.listeners": [LISTENER]}, "6818/tcp by nc (session-1.scope)"),
    "network.packet_filter": ("gpu1", {"network.nft_tables": ["ip docker"]}, "ip docker"),
    "storage.room": ("gpu1", {"storage.room": FULL}, "1.0 GiB free"),
    "storage.inodes": ("gpu1", {"storage.room": NO_INODES}, "10 free"),
    "storage.writable": ("gpu1", {"storage.room": SHUT}, "/"),
    "storage.disks": ("gpu1", {"storage.disks": [DISK]}, "sdb (zfs_member)"),
    "boundary.escapes": ("gpu1", {"boundary.escapes": ["192.0.2.1:443/tcp"]}, "192.0.2.1:443/tcp"),
    "boundary.depot": ("gpu1", {"boundary.depot": False}, "does not answer"),
    "safety.users": ("gpu1", {"safety.users": ["anna on pts/0"]}, "anna"),
    "safety.jobs": ("gpu1", {"safety.jobs": ["8 of anna"]}, "8 of anna"),
    "safety.maintenance": ("gpu1", {"safety.maintenance": "anna changes a fan"}, "a fan"),
    "safety.backup": ("store1", {"safety.backup_age_s": 30 * 86400.0}, "30 days"),
}
FAILING_TOGETHER: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "node.machine_id": ({"gpu1": {"node.machine_id": "same"}, "gpu2": {"node.machine_id": "same"}}, "gpu1, gpu2"),
    "storage.same_disk": ({"gpu1": {"storage.disks": [DISK]}, "gpu2": {"storage.disks": [DISK]}}, "disk s1"),
    "fabric.same_gid": (
        {name: {"fabric.ports": [{"state": "4: ACTIVE", "gids": ["fe80::1"]}]} for name in ("gpu1", "gpu2")},
        "GID fe80::1",
    ),
    "network.same_address": ({"gpu2": {"network.neighbours": {"10.20.0.21": "other"}}}, "gpu2 hears other"),
    "fabric.mtu": ({"gpu2": {"network.interfaces": [{**interface("10.20.0.22", "gpu2"), "mtu": 9000}]}}, "9000"),
    "fabric.speed": ({"gpu2": {"network.interfaces": [{**interface("10.20.0.22", "x"), "speed_mb": 1000}]}}, "1000"),
}
FAILING_HERE: dict[str, tuple[dict[str, Any], str]] = {
    "input.digest": ({"control": {"input.digest": "it is stale. Render it anew: x"}}, "it is stale."),
    "input.bundle": ({"control": {"input.bundle_digest": "e" * 64}}, "eeee"),
    "input.features": ({"bundle": {"features": ["base"]}}, "postgres"),
    "control.disk": ({"control": {"control.free_bytes": 1 << 29}}, "0.5 GiB"),
    "control.inodes": ({"control": {"control.free_inodes": 10}}, "10 free"),
    "control.memory": ({"control": {"control.memory_mb": 300}}, "300 MiB"),
    "control.python": ({"control": {"control.python": [3, 9, 2]}}, "3.9.2"),
    "control.fingerprints": ({"control": {"control.unknown_hosts": ["10.20.0.21"]}}, "10.20.0.21"),
    "control.clock": ({"now": NOW + 900 * 86400}, "+901 days"),
}


def test_a_site_that_is_right_passes_every_check():
    assert [one for one in judged() if one.state != "ok"] == []


@pytest.mark.parametrize("check", FAILING)
def test_a_check_fails_on_the_node_that_is_wrong_and_on_no_other(check):
    node, changed, measured = FAILING[check]

    failed = [one for one in judged({node: changed}) if one.state == "failed" and one.id == check]

    assert [one.node for one in failed] == [node]
    assert measured in failed[0].measured
    assert failed[0].remedy


@pytest.mark.parametrize("check", FAILING_TOGETHER)
def test_a_check_of_all_nodes_names_those_that_stand_out(check):
    changed, measured = FAILING_TOGETHER[check]

    failed = [one for one in judged(changed) if one.state == "failed" and one.id == check]

    assert measured in failed[0].measured


@pytest.mark.parametrize("check", FAILING_HERE)
def test_a_check_of_the_control_host_and_the_inputs_fails(check):
    changed, measured = FAILING_HERE[check]

    failed = [one for one in judged(**changed) if one.state == "failed" and one.id == check]

    assert [one.node for one in failed] == ["control host"]
    assert measured in failed[0].measured


def test_every_check_is_shown_failing():
    untried = IDS - set(FAILING) - set(FAILING_TOGETHER) - set(FAILING_HERE) - {REACHABLE, "input.networks"}

    assert untried == set()


def test_ids_are_unique():
    ids = [check.id for check in (*NODE_CHECKS, *SITE_CHECKS, *CONTROL_CHECKS)]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("fact", sorted(set(FACTS) - {"asked_at", "answered_at", "os.sources_read", "node.clock"}))
def test_a_fact_that_cannot_be_read_is_unknown_with_its_reason_and_never_well(fact):
    nodes = ("gpu1", "ctl1", "store1")
    before = {(one.id, one.node) for one in judged() if one.state == "ok"}

    verdicts = judged({node: {fact: {"unread": "no such thing here"}} for node in nodes})

    unknown = {(one.id, one.node) for one in verdicts if one.state == "unknown"}
    still_judged = {(one.id, one.node) for one in verdicts if one.state == "ok"}
    assert unknown or fact == "network.neighbours"
    assert before - still_judged == unknown
    assert all("no such thing here" in one.measured for one in verdicts if one.state == "unknown")


@pytest.mark.parametrize(
    ("asked", "answered", "state"),
    [(-0.2, 0.3, "ok"), (-0.2, 40.0, "unknown"), (3.0, 3.5, "failed"), (-9.0, -8.5, "failed")],
    ids=["close", "slow exchange", "behind", "ahead"],
)
def test_without_chrony_a_clock_is_judged_by_what_the_exchange_proves(asked, answered, state):
    facts = {"node.clock": {"unread": "no chrony"}, "asked_at": NOW + asked, "answered_at": NOW + answered}

    (found,) = [one for one in judged({"gpu1": facts}) if one.id == "node.clock" and one.node == "gpu1"]

    assert found.state == state


def test_a_silent_node_blocks_and_the_others_are_judged_all_the_same():
    facts = {node: node_facts(node) for node in ("ctl1", "store1", "gpu1", "gpu2")}
    verdicts = judged_of({**facts, "gpu3": {"silent": "No route to host"}})

    silent = [one for one in verdicts if one.id == REACHABLE and one.state == "failed"]
    assert [(one.node, one.measured) for one in silent] == [("gpu3", "No route to host")]
    assert {one.node for one in verdicts if one.id == "os.release"} == set(facts)


def test_a_check_is_passed_over_only_where_it_fails_and_its_reason_is_kept():
    verdicts = judged({"gpu1": {"os.fips": "1"}}, skipped={"os.fips": "auditor asked for it"})

    states = {one.node: (one.state, one.reason) for one in verdicts if one.id == "os.fips"}
    assert states["gpu1"] == ("skipped", "auditor asked for it")
    assert states["gpu2"] == ("ok", "")


def judged_of(nodes):
    return judge(SITE, nodes=nodes, control=CONTROL, bundle=BUNDLE, now=NOW, skipped={})


def test_every_flow_of_a_site_has_a_unit_that_may_hold_its_ports():
    with_backup = parse_site(Path("inventory/practice/site.yml").read_text())

    assert {flow.name for site in (SITE, with_backup) for flow in flows(site)} == set(OWNERS)
