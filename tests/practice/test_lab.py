"""Practice nodes, for real: booted, broken, cut off, brought back, and gone without a trace."""

import os
import signal
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from lab import cgroups, disk, machine, snapshots
from lab.errors import LabError
from lab.record import Node
from lab.shell import wait_until
from lab.site import Site, list_sites

ROOT = Path(__file__).resolve().parents[2]
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
NODES = [Node("one", IPv4Address("10.77.0.10")), Node("two", IPv4Address("10.77.0.11"))]
WORDS = [f"--node={node.name}={node.address}" for node in NODES]
PING = ("ping", "-c1", "-W1")


@pytest.fixture(scope="module")
def shared_site():
    """Two nodes with a snapshot; it holds whatever a killed run left behind, so that goes first."""
    take_down(f"lab-{WORKER}-copy", f"lab-{WORKER}")
    site = Site(f"lab-{WORKER}")
    site.up(NODES)
    site.ssh("one", "echo kept > /root/before")
    site.snapshot("clean")
    yield site
    take_down(f"lab-{WORKER}-copy", site.name)


@pytest.fixture
def site(shared_site):
    """The shared site as it was; a test that broke it costs a restore."""
    yield shared_site
    shared_site.heal()
    for name, state in shared_site.status().items():
        if state != "running":
            shared_site.power_cut(name)
            shared_site.start(name)


@pytest.fixture
def passing_site():
    site = Site(f"lab-{WORKER}-passing")
    take_down(site.name)
    yield site
    take_down(site.name)


def take_down(*names):
    for name in names:
        Site(name).down()


def traces(name):
    """Everything on this host that carries the site's name."""
    return [
        *(str(path) for path in [Site(name).home, *Path("/run/netns").glob(f"redoubt-{name}*")] if path.exists()),
        *disk.mounts_under(Site(name).home),
        *cgroups.processes(name),
        *(["cgroup"] if cgroups.exists(name) else []),
        *(str(path) for path in Path("/run/systemd/nspawn").glob(f"*/{name}.*")),
        *(str(path) for path in Path("/run/redoubt-lab").glob(f"{name}.*")),
    ]


def lab(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "lab", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "molecule/shared")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_when(process, reached):
    """Kill the lab's own process without warning as soon as it got somewhere."""
    assert wait_until(lambda: reached() or process.poll() is not None, timeout_s=60, pause_s=0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)


@pytest.mark.parametrize("text", ["one", "One=10.77.0.10", "one=10.78.0.1", "one=10.77.0.1", "a/b=10.77.0.9", "one=x"])
def test_a_node_that_cannot_be_is_refused_with_the_reason(text):
    with pytest.raises(LabError, match=r"NAME=ADDRESS|is no name|not free"):
        Node.parse(text)


@pytest.mark.system
def test_nodes_boot_a_whole_systemd_and_know_each_other(site):
    assert site.ssh("one", "systemctl is-system-running --wait").stdout.strip() == "running"
    assert site.ssh("one", *PING, "two").returncode == 0
    assert float(site.ssh("two", "cut -d' ' -f1 /proc/uptime").stdout) < 3600


@pytest.mark.system
def test_a_site_that_is_up_is_left_alone(site):
    before = machine.leader(site.name, "one")

    changed = site.up(NODES)

    assert not changed
    assert machine.leader(site.name, "one") == before


@pytest.mark.system
def test_no_node_reaches_anything_outside_and_the_counters_say_so(site):
    routes = site.ssh("one", "ip -o route").stdout.splitlines()
    reached = site.ssh("one", *PING, "192.0.2.1", check=False)
    counted = site.counters()

    assert [route.split()[0] for route in routes] == ["10.77.0.0/24"]
    assert "unreachable" in reached.stderr
    assert counted["inside"] > 0
    assert {name: counted[name] for name in ("ipv4_outside", "ipv6", "controller_outside", "forwarded")} == {
        "ipv4_outside": 0,
        "ipv6": 0,
        "controller_outside": 0,
        "forwarded": 0,
    }


@pytest.mark.system
def test_a_packet_that_tries_to_leave_is_counted_and_goes_nowhere(shared_site):
    copy = shared_site.restore_as("clean", f"lab-{WORKER}-copy")
    copy.ssh("one", "ip route add default via 10.77.0.1")

    reached = copy.ssh("one", *PING, "192.0.2.1", check=False)

    assert reached.returncode != 0
    assert copy.counters()["ipv4_outside"] > 0
    assert shared_site.counters()["ipv4_outside"] == 0
    copy.down()


@pytest.mark.system
def test_two_sites_with_the_same_addresses_do_not_see_each_other(shared_site):
    copy = shared_site.restore_as("clean", f"lab-{WORKER}-copy")
    shared_site.ssh("two", "touch /root/only-here")

    assert copy.ssh("one", "cat /root/before").stdout == "kept\n"
    assert copy.ssh("two", "ls /root").stdout == ""
    with pytest.raises(LabError, match="stands on a snapshot"):
        shared_site.down()
    copy.down()
    assert traces(copy.name) == []


@pytest.mark.system
def test_a_power_cut_ends_the_node_at_once_and_keeps_its_disk(site):
    site.ssh("two", "echo written > /root/written && sync")

    site.power_cut("two")
    cut = site.status()["two"]
    site.start("two")

    assert cut == "off"
    assert site.ssh("two", "cat /root/written").stdout == "written\n"
    assert float(site.ssh("two", "cut -d' ' -f1 /proc/uptime").stdout) < 30


@pytest.mark.system
def test_a_shut_down_node_starts_again(site):
    site.power_off("two")
    off = site.status()["two"]
    site.start("two")

    assert off == "off"
    assert site.ssh("two", "hostname").stdout == "two\n"


@pytest.mark.system
def test_a_partition_cuts_nodes_from_each_other_and_leaves_the_controller_in(site):
    site.partition("one")
    cut = site.ssh("one", *PING, "10.77.0.11", check=False)
    site.heal("one")
    healed = site.ssh("one", *PING, "10.77.0.11", check=False)

    assert (cut.returncode, healed.returncode) == (1, 0)
    assert site.counters()["cut_off"] > 0


@pytest.mark.system
def test_a_frozen_node_hangs_until_it_is_thawed(site):
    site.freeze("two")
    frozen = site.status()["two"]
    with pytest.raises(subprocess.TimeoutExpired):
        site.ssh("two", "true", timeout_s=0.5)
    site.thaw("two")

    assert frozen == "frozen"
    assert site.ssh("two", "true").returncode == 0


@pytest.mark.system
def test_a_restored_site_has_forgotten_what_came_after_the_snapshot(site):
    site.ssh("one", "rm /root/before; echo late > /root/after")

    site.restore("clean")

    assert site.ssh("one", "ls /root").stdout == "before\n"


@pytest.mark.system
def test_a_snapshot_killed_in_the_middle_loses_no_disk(site):
    name = "killed"
    killed = lab("snapshot", site.name, name)
    kill_when(killed, (site.home / "journal").exists)

    site.up(NODES)

    assert site.ssh("one", "cat /root/before").stdout == "kept\n"
    assert list(site.home.glob("snapshots/.*")) == []


@pytest.mark.system
def test_a_step_that_was_interrupted_between_two_disks_is_undone(passing_site, monkeypatch):
    passing_site.up(NODES)
    passing_site.ssh("two", "echo kept > /root/kept")
    moved = snapshots.move_layers
    seen = []

    def fail_at_the_second(source, target):
        seen.append(source)
        if len(seen) == 2:
            raise KeyboardInterrupt
        moved(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "move_layers", fail_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            passing_site.snapshot("half")
    passing_site.up(NODES)

    assert passing_site.ssh("two", "cat /root/kept").stdout == "kept\n"
    assert passing_site.status() == {"one": "running", "two": "running"}


@pytest.mark.system
def test_a_start_killed_in_the_middle_is_finished_by_the_next_and_removed_by_down(passing_site):
    killed = lab("up", passing_site.name, *WORDS)
    kill_when(killed, lambda: bool(cgroups.processes(passing_site.name)))

    passing_site.up(NODES)
    running = passing_site.status()
    passing_site.down()

    assert running == {"one": "running", "two": "running"}
    assert traces(passing_site.name) == []
    assert passing_site.name not in list_sites()


@pytest.mark.system
def test_what_a_killed_start_left_is_removed_by_down(passing_site):
    killed = lab("up", passing_site.name, *WORDS)
    kill_when(killed, lambda: bool(disk.mounts_under(passing_site.home)))

    passing_site.down()

    assert traces(passing_site.name) == []
    assert not passing_site.down()


@pytest.mark.system
def test_an_unknown_site_node_or_snapshot_is_named_with_what_there_is(site):
    with pytest.raises(LabError, match="make it with `up"):
        Site("nowhere").status()
    with pytest.raises(LabError, match="it has one, two"):
        site.power_cut("three")
    with pytest.raises(LabError, match="make one with `snapshot"):
        site.restore("never")
