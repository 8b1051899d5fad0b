"""Preflight on practice nodes: a site that stands is clean, and each condition that can be made on a node is seen."""

import json
import subprocess

import pytest
from lab.network import namespace
from practice.site import BIN

pytestmark = pytest.mark.system

LISTEN = 'import socket, time; s = socket.socket(); s.bind(("10.77.0.11", 20500)); s.listen(); time.sleep(300)'
AUTO = r'APT::Periodic::Enable "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
BACKGROUND = "> /dev/null 2>&1 < /dev/null & echo $!"
SAME_ID = "0123456789abcdef0123456789abcdef"
# id: the node, the command that makes the condition, the command that takes it back.
CONDITIONS = {
    "os.pending_reboot": ("gpu1", "touch /run/reboot-required", "rm /run/reboot-required"),
    "os.packages_held": ("gpu1", "apt-mark hold sudo", "apt-mark unhold sudo"),
    "os.packages_broken": (
        "store1",
        "cp /var/lib/dpkg/status /root/dpkg && sed -i '0,/ok installed/s//ok unpacked/' /var/lib/dpkg/status",
        "mv /root/dpkg /var/lib/dpkg/status",
    ),
    "os.sources": (
        "gpu1",
        "echo 'deb http://mirror.invalid/debian trixie main' > /etc/apt/sources.list.d/vendor.list",
        "rm /etc/apt/sources.list.d/vendor.list",
    ),
    "os.unattended_upgrades": (
        "gpu2",
        f"printf '{AUTO}' > /etc/apt/apt.conf.d/99auto",
        "rm /etc/apt/apt.conf.d/99auto",
    ),
    "os.driver_leftovers": ("gpu1", "mkdir -p /var/lib/dkms/nvidia", "rm -r /var/lib/dkms"),
    "os.tmp": ("gpu1", "mount -o remount,noexec /tmp", "mount -o remount,exec /tmp"),
    "os.failed_units": (
        "gpu2",
        "systemd-run --quiet --unit=redoubt-broken false; sleep 1",
        "systemctl reset-failed redoubt-broken",
    ),
    "os.proxies": (
        "gpu1",
        "echo http_proxy=http://10.77.0.9:3128 >> /etc/environment",
        "sed -i /http_proxy/d /etc/environment",
    ),
    "node.hostname": ("store1", "hostname other", "hostname store1"),
    "node.machine_id": (
        "gpu2",
        f"cp /etc/machine-id /root/id && echo {SAME_ID} > /etc/machine-id",
        "cat /root/id > /etc/machine-id; rm /root/id",
    ),
    "network.nameservers": ("gpu1", "echo nameserver 192.0.2.53 > /etc/resolv.conf", "rm /etc/resolv.conf"),
    "network.default_route": (
        "gpu2",
        "ip route replace default via 10.77.0.9",
        "ip route del default; ip route add default via 10.77.0.254 || true",
    ),
    "network.ports": (
        "gpu1",
        f"setsid python3 -c '{LISTEN}' {BACKGROUND} > /root/listener; sleep 1",
        "kill $(cat /root/listener)",
    ),
    "network.packet_filter": ("gpu2", "nft add table ip stranger", "nft delete table ip stranger"),
    "fabric.mtu": ("gpu2", "ip link set host0 mtu 1400", "ip link set host0 mtu 1500"),
    "boundary.depot": ("ctl1", "systemctl stop nginx", "systemctl start nginx"),
    "safety.users": (
        "gpu1",
        f"setsid script --quiet --command 'sleep 300' /dev/null {BACKGROUND} > /root/user; sleep 1",
        "kill $(cat /root/user)",
    ),
    "safety.maintenance": ("gpu1", "echo anna changes a fan > /etc/redoubt/maintenance", "rm /etc/redoubt/maintenance"),
    "safety.backup": (
        "store1",
        "mkdir -p /var/lib/redoubt && touch -d '30 days ago' /var/lib/redoubt/last-backup",
        "rm /var/lib/redoubt/last-backup",
    ),
}
TWIN = ("gpu1", *CONDITIONS["node.machine_id"][1:])  # two nodes with one id


def test_a_site_that_stands_has_nothing_that_blocks(site):
    code, told = preflight(site)

    assert [one for one in told["checks"] if one["state"] == "failed" and one["severity"] == "block"] == []
    assert code == 0
    assert told["counts"]["ok"] > 100


def test_every_condition_that_can_be_made_on_a_node_is_seen_where_it_is_and_gone_when_it_is_undone(site):
    before = failed(preflight(site)[1])
    made = {check: node for check, (node, *_) in CONDITIONS.items()}
    try:
        for node, make, _ in (*CONDITIONS.values(), TWIN):
            site.lab.ssh(node, make)
        site.gpu("gpu2", "inject", "lost", "--gpu", 3)
        code, told = preflight(site)
    finally:
        site.gpu("gpu2", "inject", "reboot")
        for node, _, undo in (*CONDITIONS.values(), TWIN):
            site.lab.ssh(node, f"{undo} || true")
    after = failed(preflight(site)[1])

    made |= {"gpu.lost": "gpu2", "gpu.count": "gpu2"}
    assert {check: node for check, node in made.items() if (check, node) not in failed(told)} == {}
    assert code == 3
    assert after == before


def test_apply_stops_at_a_block_before_it_changes_anything_and_a_reason_passes_it_over(site):
    site.lab.ssh("gpu1", "touch /run/reboot-required")
    try:
        stopped = site.try_install()
        words = ("--skip-check", "os.pending_reboot=the window ends at six")
        passed = site.try_install(*words)
    finally:
        site.lab.ssh("gpu1", "rm -f /run/reboot-required")

    assert stopped.returncode == 3
    assert "os.pending_reboot on gpu1" in stopped.stderr
    assert passed.returncode == 0, passed.stderr


def preflight(site):
    """Run the command as an engineer does; return its exit code and what it says."""
    reach = ("--ssh-config", site.lab.ssh_config, "--netns", namespace(site.lab.name))
    words = (BIN / "redoubt", "site", "preflight", site.spec, "--rendered", site.rendered, *reach, "--json")
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def failed(told):
    return {(one["id"], one["node"]) for one in told["checks"] if one["state"] == "failed"}
