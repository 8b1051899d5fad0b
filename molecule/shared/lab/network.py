"""A site's network: one namespace, one bridge, no uplink. The namespace is the boundary."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.places import NAMESPACES
from lab.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterable

BRIDGE = "br0"
NETWORK = IPv4Network("10.77.0.0/24")
CONTROLLER = IPv4Address("10.77.0.1")
ROUTER = IPv4Address("10.77.0.254")
UPLINK = "uplink"  # the port of the bridge that the router hangs on
ROUTER_LINK = "inside"  # the same link, seen from outside

# Counts on the bridge see what nodes send, counts on output what the controller sends. Nothing may move but `inside`.
RULES = f"""
table bridge redoubt_lab
delete table bridge redoubt_lab
table bridge redoubt_lab {{
    set cut {{ type ipv4_addr . ipv4_addr; }}
    counter inside {{ }}
    counter ipv4_outside {{ }}
    counter ipv6 {{ }}
    counter cut_off {{ }}
    chain seen {{
        type filter hook prerouting priority -300; policy accept;
        iifname "{UPLINK}" return
        ether type ip ip daddr {NETWORK} counter name inside
        ether type ip ip daddr != {NETWORK} counter name ipv4_outside
        ether type ip6 counter name ipv6
    }}
    chain partitions {{
        type filter hook forward priority 0; policy accept;
        ether type ip ip saddr . ip daddr @cut counter name cut_off drop
        ether type arp arp saddr ip . arp daddr ip @cut counter name cut_off drop
    }}
}}
table inet redoubt_lab
delete table inet redoubt_lab
table inet redoubt_lab {{
    counter controller_outside {{ }}
    counter forwarded {{ }}
    chain output {{
        type filter hook output priority 0; policy accept;
        oifname "lo" accept
        ip daddr != {NETWORK} counter name controller_outside
        meta nfproto ipv6 counter name controller_outside
    }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        oifname != "{BRIDGE}" counter name forwarded drop
    }}
}}
"""


def namespace(site: str) -> str:
    """Name the site's network namespace."""
    return f"redoubt-{site}"


def enter(site: str) -> tuple[str, ...]:
    """Return the words that run a command inside the boundary."""
    # `ip netns exec` would remount /sys and hide the cgroup trees from nspawn.
    return ("nsenter", f"--net={NAMESPACES / namespace(site)}")


def ensure_network(site: str) -> bool:
    """Make namespace, bridge and counters where they are missing; tell whether anything was made."""
    if _is_complete(site):
        return False
    if not _answers(site):
        remove_network(site)
        run("ip", "netns", "add", namespace(site))
    _make_bridge(site)
    run(*enter(site), "nft", "-f", "-", stdin=RULES)
    return True


def cut(site: str, pairs: Iterable[tuple[IPv4Address, IPv4Address]]) -> None:
    """Drop every packet between the pairs, both ways; the controller keeps its way in."""
    _nft(site, f"add element bridge redoubt_lab cut {{ {_both_ways(pairs)} }}")


def heal(site: str, pairs: Iterable[tuple[IPv4Address, IPv4Address]] | None = None) -> None:
    """Let packets through again, between the pairs or between all."""
    if pairs is None:
        _nft(site, "flush set bridge redoubt_lab cut")
    else:  # adding first: deleting an element that is not there is an error
        elements = _both_ways(pairs)
        _nft(site, *(f"{verb} element bridge redoubt_lab cut {{ {elements} }}" for verb in ("add", "delete")))


def read_counters(site: str) -> dict[str, int]:
    """Read how many packets were seen, by kind, since the site came up."""
    found = json.loads(run(*enter(site), "nft", "-j", "list", "counters"))["nftables"]
    return {item["counter"]["name"]: int(item["counter"]["packets"]) for item in found if "counter" in item}


def remove_network(site: str) -> None:
    """End SSH connections held open inside the namespace and remove it."""
    if not (NAMESPACES / namespace(site)).exists():
        return
    if _answers(site):
        _end_connections(site)
    run("ip", "netns", "delete", namespace(site))


def _answers(site: str) -> bool:
    with contextlib.suppress(LabError):
        run(*enter(site), "true")
        return True
    return False


def _is_complete(site: str) -> bool:
    with contextlib.suppress(LabError):
        run(*enter(site), "nft", "list", "table", "inet", "redoubt_lab")
        return str(CONTROLLER) in run("ip", "-n", namespace(site), "addr", "show", BRIDGE)
    return False


def _make_bridge(site: str) -> None:
    inside = enter(site)
    run(*inside, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=0")
    # Where br_netfilter exists it would show frames between nodes to rules that are meant for routing.
    run(*inside, "sysctl", "-qwe", "net.bridge.bridge-nf-call-iptables=0")
    run(*inside, "ip", "link", "set", "lo", "up")
    if not _has_bridge(site):
        # A fixed address: a bridge otherwise changes its own whenever a node joins or leaves.
        # No multicast snooping: the bridge would send reports of its own, and the counters would show them.
        words = ("ip", "link", "add", BRIDGE, "address", "02:77:00:00:00:01", "type", "bridge", "mcast_snooping", "0")
        run(*inside, *words)
    run(*inside, "ip", "addr", "replace", f"{CONTROLLER}/{NETWORK.prefixlen}", "dev", BRIDGE)
    run(*inside, "ip", "link", "set", BRIDGE, "up")


def _has_bridge(site: str) -> bool:
    links = json.loads(run("ip", "-n", namespace(site), "-j", "link", "show"))
    return any(link.get("ifname") == BRIDGE for link in links)


def _both_ways(pairs: Iterable[tuple[IPv4Address, IPv4Address]]) -> str:
    return ", ".join(f"{a} . {b}, {b} . {a}" for a, b in pairs)


def _nft(site: str, *lines: str) -> None:
    run(*enter(site), "nft", "-f", "-", stdin="\n".join(lines) + "\n")


def _end_connections(site: str) -> None:
    for word in run("ip", "netns", "pids", namespace(site)).split():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{word}/comm").read_text().strip() == "ssh":
                os.kill(int(word), signal.SIGTERM)
