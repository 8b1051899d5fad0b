"""Tries to leave, as whoever runs it: `python3 attempts.py < plan.json` prints what happened to every attempt.

Standard library only. It never asks a public service: destinations are documentation addresses (RFC 5737, RFC 3849),
the link-local metadata addresses, and the site's own router. What is sent there leaves a mark only if it leaves.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]  # plans and results are plain JSON

TCP_PORTS = (22, 53, 80, 443, 853, 8080)
UDP_PORTS = (53, 123, 443, 514, 4789)
PROXY_PORTS = (3128, 8080)
PROXY_NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "rsync_proxy")
OUTSIDE_NAME = "redoubt-proof.example"  # RFC 2606: nobody's
SCTP, IPV6_IN_IPV4 = 132, 41
DENIED = {errno.EPERM, errno.EACCES}
NO_ROUTE = {
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV,
    errno.ENXIO,
}  # fmt: skip


@dataclass
class Attempt:
    """One try. An empty `outcome` means that nobody has said anything yet; `silence` is what that comes to."""

    kind: str
    target: str
    outcome: str = ""
    detail: str = ""
    silence: str = "silent"
    channel: socket.socket | None = field(default=None, repr=False)


def tcp(kind: str, host: str, port: int) -> Attempt:
    """Open a connection; any answer, a refusal too, means that a packet left."""
    made, channel = _open(kind, f"tcp {host} {port}", _family(host), socket.SOCK_STREAM)
    if channel is None:
        return made
    code = channel.connect_ex(_address(host, port))
    if code == errno.EINPROGRESS:
        made.channel = channel
    elif code in (0, errno.ECONNREFUSED):
        made.outcome, made.detail = "answered", _word(code)
    else:
        _refused(made, code)
    return made


def udp(kind: str, host: str, port: int, payload: bytes = b"redoubt") -> Attempt:
    """Send a datagram; the kernel says at once when it drops one, so what was sent has left."""
    made, channel = _open(kind, f"udp {host} {port}", _family(host), socket.SOCK_DGRAM)
    return made if channel is None else _send(made, channel, _address(host, port), payload)


def ping(kind: str, host: str) -> Attempt:
    """Send an echo request: raw as root, else through a ping socket where the kernel has them for this user."""
    family = _family(host)
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    how = socket.SOCK_RAW if os.geteuid() == 0 else socket.SOCK_DGRAM
    made, channel = _open(kind, f"icmp {host}", family, how, protocol)
    return made if channel is None else _send(made, channel, _address(host, 0), _echo_request(family))


def raw(kind: str, host: str, protocol: int) -> Attempt:
    """Send a bare packet of another protocol, where the kernel lets this user."""
    made, channel = _open(kind, f"protocol {protocol} {host}", socket.AF_INET, socket.SOCK_RAW, protocol)
    return made if channel is None else _send(made, channel, (host, 0), bytes(40))


def ask(kind: str, host: str, *, inside: bool) -> Attempt:
    """Ask for an outside name. A resolver of the site may be asked; it must not know."""
    made = udp(kind, host, 53, _question(OUTSIDE_NAME))
    if inside:
        made.target, made.silence = f"resolver {host}", "unresolved"
        made.outcome = made.outcome if made.outcome in ("denied", "no_route", "unsupported", "failed") else ""
    return made


def settle(attempts: list[Attempt], wait_s: float) -> None:
    """Wait for answers, together and not one after the other; close everything."""
    deadline = time.monotonic() + wait_s
    with selectors.DefaultSelector() as selector:
        for attempt in attempts:
            if attempt.channel is not None:
                is_stream = attempt.channel.type & 0xF == socket.SOCK_STREAM
                selector.register(
                    attempt.channel, selectors.EVENT_WRITE if is_stream else selectors.EVENT_READ, attempt
                )
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if _hear(key.data):
                    selector.unregister(key.fileobj)
    for attempt in attempts:
        attempt.outcome = attempt.outcome or attempt.silence
        if attempt.channel is not None:
            attempt.channel.close()


def control(wait_s: float, port: int) -> dict[str, bool]:
    """Reach loopback by the same means: a prober that reaches nothing at all proves nothing. Port 0 is any."""
    with socket.create_server(("127.0.0.1", port)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", port))
        echo.settimeout(wait_s)
        tries = [tcp("control", "127.0.0.1", server.getsockname()[1]), ping("control", "127.0.0.1")]
        sent = udp("control", "127.0.0.1", echo.getsockname()[1])
        with suppress(OSError):
            echo.sendto(*echo.recvfrom(64))
        settle([*tries, sent], wait_s)
    found = {"tcp": tries[0].outcome == "answered", "udp": sent.outcome == "answered"}
    return found if tries[1].outcome == "unsupported" else {**found, "icmp": tries[1].outcome == "answered"}


def every_attempt(plan: Json) -> Iterator[Attempt]:
    """Start everything that this context tries."""
    outside = [*plan["ipv4"], *plan["routers"]]
    for host in outside:
        yield from (tcp("tcp", host, port) for port in TCP_PORTS)
        yield from (udp("udp", host, port) for port in UDP_PORTS)
        yield ping("icmp", host)
        yield ask("dns", host, inside=False)
        yield udp("ntp", host, 123, b"\x23" + bytes(47))
        yield raw("other", host, IPV6_IN_IPV4)
        yield raw("other", host, SCTP)
    yield from (ask("dns", host, inside=True) for host in plan["resolvers"])
    yield from _ipv6(plan)
    for host in plan["metadata"]:
        yield tcp("metadata", host, 80)
        yield udp("metadata", host, 80)
    yield from (tcp("proxy", host, port) for host in plan["routers"] for port in PROXY_PORTS)
    yield from _variables(plan.get("variables", sorted(os.environ)))


def run(plan: Json) -> Json:
    """Try everything and return the tally, with every attempt in full that did not end as it should."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
    worked = control(plan["wait_s"], plan["own_ports"].get(str(os.geteuid()), 0))
    lookup = _Lookup()
    attempts = list(every_attempt(plan))
    settle(attempts, plan["wait_s"])
    return {"uid": os.geteuid(), "control": worked, **tally([*attempts, lookup.result(plan["wait_s"])])}


def tally(attempts: list[Attempt]) -> Json:
    """Count outcomes by kind; keep what was sent, answered, present or failed."""
    counts: dict[str, dict[str, int]] = {}
    for attempt in attempts:
        by_outcome = counts.setdefault(attempt.kind, {})
        by_outcome[attempt.outcome] = by_outcome.get(attempt.outcome, 0) + 1
    odd = [one for one in attempts if one.outcome in ("sent", "answered", "present", "failed")]
    return {
        "attempts": [{"kind": kind, "outcomes": outcomes} for kind, outcomes in counts.items()],
        "anomalies": [
            {"kind": one.kind, "target": one.target, "outcome": one.outcome, "detail": one.detail} for one in odd
        ],
    }


class _Lookup:
    """A look-up through the system's own resolver, which cannot be told to hurry."""

    def __init__(self) -> None:
        self._attempt = Attempt("dns", f"getaddrinfo {OUTSIDE_NAME}", silence="unresolved")
        self._thread = threading.Thread(target=self._resolve, daemon=True)
        self._thread.start()

    def result(self, wait_s: float) -> Attempt:
        self._thread.join(wait_s)
        self._attempt.outcome = self._attempt.outcome or "unresolved"
        return self._attempt

    def _resolve(self) -> None:
        with suppress(OSError):
            found = socket.getaddrinfo(OUTSIDE_NAME, 443)
            self._attempt.outcome, self._attempt.detail = "answered", str(found[0][4][0])


def _ipv6(plan: Json) -> Iterator[Attempt]:
    for host in plan["ipv6"]:
        yield from (tcp("ip6", host, port) for port in (80, 443))
        yield from (udp("ip6", host, port) for port in (53, 443))
        yield ping("ip6", host)
    for interface in plan["interfaces"]:
        yield udp("ip6", f"ff02::1%{interface}", 5353)
        yield ping("ip6", f"ff02::1%{interface}")


def _variables(names: list[str]) -> Iterator[Attempt]:
    lower = {name.lower() for name in names}
    for name in PROXY_NAMES:
        yield Attempt("proxy", f"variable {name}", "present" if name in lower else "absent")


def _open(kind: str, target: str, family: int, how: int, protocol: int = 0) -> tuple[Attempt, socket.socket | None]:
    """Ask the kernel for a socket; a kind that it does not give to this user cannot be used to leave."""
    try:
        channel = socket.socket(family, how, protocol)
    except OSError as refused:
        return Attempt(kind, target, "unsupported", _word(refused.errno)), None
    channel.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return Attempt(kind, target), channel


def _send(made: Attempt, channel: socket.socket, address: tuple[Any, ...], payload: bytes) -> Attempt:
    try:
        if channel.type & 0xF != socket.SOCK_RAW:
            channel.connect(address)
            channel.send(payload)
        else:
            channel.sendto(payload, address)
    except OSError as refused:
        channel.close()
        _refused(made, refused.errno)
        return made
    made.outcome, made.channel = "sent", channel
    return made


def _refused(made: Attempt, code: int | None) -> None:
    """An error of the call itself is the kernel's own word, before anything left."""
    made.outcome = "denied" if code in DENIED else "no_route" if code in NO_ROUTE else "failed"
    made.detail = _word(code)


def _hear(attempt: Attempt) -> bool:
    """Take what came back; tell whether the attempt is over."""
    channel = attempt.channel
    if channel is None:
        return True
    if channel.type & 0xF == socket.SOCK_STREAM:
        attempt.outcome, attempt.detail = "answered", _word(channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return True
    try:
        data = channel.recv(2048)
    except OSError as refused:
        attempt.outcome = "unresolved" if attempt.silence == "unresolved" else "answered"
        attempt.detail = _word(refused.errno)
        return True
    if channel.type & 0xF == socket.SOCK_RAW and not _is_echo_reply(data):
        return False
    if attempt.silence == "unresolved" and not _names_an_address(data):
        attempt.outcome = "unresolved"
        return True
    attempt.outcome, attempt.detail = "answered", f"{len(data)} bytes"
    return True


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(host: str, port: int) -> tuple[Any, ...]:
    bare, _, interface = host.partition("%")
    if ":" not in host:
        return bare, port
    with suppress(OSError):
        return bare, port, 0, socket.if_nametoindex(interface) if interface else 0
    return bare, port, 0, 0


def _word(code: int | None) -> str:
    return "connected" if not code else errno.errorcode.get(code, str(code))


def _echo_request(family: int) -> bytes:
    """Make a request with a number of its own, or a connection tracker would take it for an earlier one."""
    kind, number, words = 128 if family == socket.AF_INET6 else 8, int.from_bytes(os.urandom(2)), b"redoubt!"
    total = sum(struct.unpack("!8H", struct.pack("!BBHHH", kind, 0, 0, number, 1) + words))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", kind, 0, ~(total + (total >> 16)) & 0xFFFF, number, 1) + words


def _is_echo_reply(data: bytes) -> bool:
    """A raw socket hears every ICMP packet; ours carries our words. IPv4 shows the IP header too."""
    start = (data[0] & 0xF) * 4 if data and data[0] >> 4 == 4 else 0
    return data[start : start + 1] in (b"\x00", b"\x81") and b"redoubt!" in data


def _question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 0x5EED, 0x0100, 1, 0, 0, 0) + labels + b"\x00" + struct.pack("!2H", 1, 1)


def _names_an_address(data: bytes) -> bool:
    """Say whether a DNS answer holds one: no error, and at least one record."""
    return len(data) >= 12 and data[3] & 0xF == 0 and data[6:8] != b"\x00\x00"


def main() -> None:
    """Read the plan, try, print; leave without waiting for a resolver that hangs."""
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
