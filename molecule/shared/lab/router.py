"""Where the uplink would be: a router that answers for every address outside, and records every packet that gets there.

A site without a router proves little, because packets that nobody would take are not sent. This one takes everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
from ipaddress import IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: JSON of the recorder

from lab import answers
from lab.errors import LabError
from lab.network import BRIDGE, CONTROLLER, NETWORK, ROUTER, ROUTER_LINK, UPLINK, enter, namespace
from lab.outside import CHECK, CHECK_PORT
from lab.packets import Packet
from lab.places import NAMESPACES
from lab.record import home
from lab.shell import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS_WITHIN_S = 10
CHECK_WITHIN_S = 5
ROUTER_IPV6 = IPv6Interface("fd77::254/64")
SHOUT = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (sys.argv[2], {port}))"

# Every port is one of the few that somebody listens on. Its own multicast would look as if a node had sent it.
RULES = f"""
table inet redoubt_outside
delete table inet redoubt_outside
table inet redoubt_outside {{
    chain marked {{
        type filter hook prerouting priority raw; policy accept;
        ip saddr {CONTROLLER} udp dport {CHECK_PORT} drop
    }}
    chain doors {{
        type nat hook prerouting priority dstnat; policy accept;
        tcp dport {answers.DNS_PORT} redirect to :{answers.DNS_PORT}
        meta l4proto tcp redirect to :{answers.TCP_PORT}
        udp dport {answers.DNS_PORT} redirect to :{answers.DNS_PORT}
        udp dport {answers.NTP_PORT} redirect to :{answers.NTP_PORT}
        meta l4proto udp redirect to :{answers.ECHO_PORT}
    }}
    chain quiet {{
        type filter hook output priority filter; policy accept;
        ip protocol igmp drop
        icmpv6 type {{ mld-listener-report, mld2-listener-report, nd-router-solicit }} drop
    }}
}}
"""


def outside(site: str) -> str:
    """Name the namespace outside the boundary of a site."""
    return f"{namespace(site)}-outside"


def enter_outside(site: str) -> tuple[str, ...]:
    """Return the words that run a command outside the boundary, next to it."""
    return ("nsenter", f"--net={NAMESPACES / outside(site)}")


def ensure_router(site: str) -> bool:
    """Make the router and its recorder where they are missing; tell whether anything was made."""
    if _is_joined(site) and is_recording(site):
        return False
    remove_router(site)
    run("ip", "netns", "add", outside(site))
    _join(site)
    run(*enter_outside(site), "nft", "-f", "-", stdin=RULES)
    _start(site)
    return True


def remove_router(site: str) -> None:
    """End the recorder and remove the router."""
    _end(site)
    if (NAMESPACES / outside(site)).exists():
        run("ip", "netns", "delete", outside(site))
    with contextlib.suppress(LabError):  # the pair goes with the namespace, a moment later
        run(*enter(site), "ip", "link", "delete", UPLINK)


def records(site: str) -> list[Packet]:
    """List every packet that came out since the last `clear`; a recorder that does not record is an error."""
    check(site)
    return list(_packets(site))


def tally(site: str) -> dict[str, int]:
    """Count what else the recorder saw: ARP for neighbours, frames of the site itself, packets that it missed."""
    return {kind: int(count) for kind, count in _tally(site).items() if kind != "check"}


def clear(site: str) -> None:
    """Forget what was recorded, and remember which recorder was there."""
    _shout(site)
    os.truncate(_folder(site) / "packets.jsonl", 0)
    (_folder(site) / "since").write_text(json.dumps([_pid(site), _tally(site)["missed"]]))


def check(site: str) -> None:
    """Send one marked packet and find it recorded: all that came out before it is recorded too."""
    _shout(site)
    pid, missed = _since(site)
    if pid != _pid(site):
        raise LabError(f"the recorder of site {site} was started anew and saw only a part; clear it and prove again")
    if _tally(site)["missed"] > missed:
        raise LabError(f"packets came faster than the recorder of site {site} took them; clear it and prove again")


def is_recording(site: str) -> bool:
    """Tell whether the process that records is alive: it holds its lock."""
    path = _folder(site) / "lock"
    if not path.exists():
        return False
    with path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return (_folder(site) / "pid").exists()
    return False


def _shout(site: str) -> None:
    if not is_recording(site):
        raise LabError(f"nothing records what leaves site {site}; start its recorder with: tools/site --name {site} up")
    token = secrets.token_hex(8)
    words = (sys.executable, "-c", SHOUT.format(port=CHECK_PORT), CHECK.decode() + token, str(ROUTER))
    run(*enter(site), *words)
    if not wait_until(lambda: _tally(site)["check"] == token, timeout_s=CHECK_WITHIN_S):
        raise LabError(f"the recorder of site {site} did not see a packet that was sent to it")


def _since(site: str) -> tuple[str, int]:
    path = _folder(site) / "since"
    pid, missed = json.loads(path.read_text()) if path.exists() else (_pid(site), 0)
    return str(pid), int(missed)


def _packets(site: str) -> Iterator[Packet]:
    for line in (_folder(site) / "packets.jsonl").read_text().splitlines():
        yield Packet(**json.loads(line))


def _tally(site: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_folder(site) / "tally.json").read_text())
    return found


def _folder(site: str) -> Path:
    return home(site) / "outside"


def _pid(site: str) -> str:
    return (_folder(site) / "pid").read_text()


def _is_joined(site: str) -> bool:
    with contextlib.suppress(LabError):
        run(*enter(site), "ip", "link", "show", UPLINK)
        return str(ROUTER) in run("ip", "-n", outside(site), "addr", "show", ROUTER_LINK)
    return False


def _join(site: str) -> None:
    there, far = enter_outside(site), outside(site)
    # A fixed address, so that a router made anew is the one that nodes remember.
    peer = ("peer", "name", ROUTER_LINK, "address", "02:77:00:00:00:fe", "netns", far)
    run("ip", "-n", namespace(site), "link", "add", UPLINK, "type", "veth", *peer)
    run("ip", "-n", namespace(site), "link", "set", UPLINK, "master", BRIDGE, "up")
    run(*there, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
    run(*there, "sysctl", "-qwe", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
    run("ip", "-n", far, "link", "set", "lo", "up")
    run("ip", "-n", far, "addr", "add", f"{ROUTER}/{NETWORK.prefixlen}", "dev", ROUTER_LINK)
    run("ip", "-n", far, "link", "set", ROUTER_LINK, "up")
    for words in _answer_everywhere():
        run("ip", "-n", far, *words)


def _answer_everywhere() -> Iterator[tuple[str, ...]]:
    # In the table of own addresses, because an answer may only come from an address that is there. Nodes are
    # neighbours by a longer prefix: otherwise the router would answer ARP for them too.
    table = ("table", "local")
    yield ("route", "add", "unicast", str(NETWORK), "dev", ROUTER_LINK, *table)
    yield ("route", "add", "local", "0.0.0.0/0", "dev", "lo", *table)
    yield ("-6", "addr", "add", str(ROUTER_IPV6), "dev", ROUTER_LINK, "nodad")
    yield ("-6", "route", "add", "unicast", str(ROUTER_IPV6.network), "dev", ROUTER_LINK, *table)
    yield ("-6", "route", "add", "local", "::/0", "dev", "lo", *table)


def _start(site: str) -> None:
    folder = _folder(site)
    folder.mkdir(parents=True, exist_ok=True)
    words = ("setsid", "--fork", *enter_outside(site), sys.executable, "-m", "lab.outside", str(folder))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (folder / "log").open("ab") as log:
        subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=True)
    if not wait_until(lambda: is_recording(site), timeout_s=STARTS_WITHIN_S):
        raise LabError(f"the recorder of site {site} does not start: {(folder / 'log').read_text()[-500:]}")


def _end(site: str) -> None:
    if is_recording(site):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(_pid(site)), signal.SIGTERM)
        wait_until(lambda: not is_recording(site), timeout_s=5)
    (_folder(site) / "pid").unlink(missing_ok=True)
