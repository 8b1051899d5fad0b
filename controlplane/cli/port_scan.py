"""Knocks at ports from where it runs and prints every port that answers. A refusal is an answer: the packet came in.

Standard library only: its text is piped into the python3 of whatever machine stands where one wants to knock from.
"""

from __future__ import annotations

import errno
import json
import resource
import selectors
import socket
import sys
import time
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]  # plans and results are plain JSON
Door = tuple[str, str, str, int]  # node, address, protocol, port

AT_ONCE = 4000
REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET}
NOBODY = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM, errno.EACCES}


def doors(plan: Json) -> Iterator[Door]:
    """Yield every door of every node."""
    for node in plan["nodes"]:
        for protocol in ("tcp", "udp"):
            yield from ((node["name"], node["address"], protocol, port) for port in node[protocol])


def knock(batch: list[Door], wait_s: float) -> Iterator[Json]:
    """Knock at many doors at once and yield those that answer in time."""
    deadline = time.monotonic() + wait_s
    with selectors.DefaultSelector() as selector:
        for door in batch:
            yield from _knock_at(door, selector)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                channel, door = key.data
                selector.unregister(channel)
                how = _hear(channel, door[2])
                channel.close()
                if how:
                    yield _answer(door, how)
        for key in list(selector.get_map().values()):
            key.data[0].close()


def _knock_at(door: Door, selector: selectors.BaseSelector) -> Iterator[Json]:
    """Start one knock. What the kernel of this machine refuses itself tells nothing of the node."""
    _, address, protocol, port = door
    channel = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    channel.setblocking(False)  # noqa: FBT003 - the standard library's signature
    code = channel.connect_ex((address, port))
    if protocol == "udp" and code == 0:
        with suppress(OSError):
            channel.send(b"redoubt")
        selector.register(channel, selectors.EVENT_READ, (channel, door))
    elif code == errno.EINPROGRESS:
        selector.register(channel, selectors.EVENT_WRITE, (channel, door))
    else:
        channel.close()
        if code in {0, *REFUSALS}:
            yield _answer(door, _word(code))


def _hear(channel: socket.socket, protocol: str) -> str:
    """Return how a door answered, or nothing when nobody did."""
    if protocol == "tcp":
        code = channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return "" if code in NOBODY else _word(code)
    try:
        return f"{len(channel.recv(2048))} bytes"
    except OSError as refused:
        return "" if refused.errno in NOBODY else _word(refused.errno)


def _answer(door: Door, how: str) -> Json:
    node, _, protocol, port = door
    return {"node": node, "protocol": protocol, "port": port, "how": how}


def _word(code: int | None) -> str:
    return "connected" if not code else errno.errorcode.get(code, str(code))


def control(wait_s: float) -> bool:
    """Find the one open door of this machine itself: a scanner that finds none proves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = list(knock([("here", "127.0.0.1", "tcp", port)], wait_s))
    return [answer["port"] for answer in found] == [port]


def scan(text: str) -> None:
    """Knock as the plan says, in batches, and print what answered."""
    plan: Json = json.loads(text)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    at_once, every = min(AT_ONCE, most - 50), doors(plan)
    answered: list[Json] = []
    works = control(plan["wait_s"])
    while batch := list(islice(every, at_once)):
        answered += knock(batch, plan["wait_s"])
    sys.stdout.write(json.dumps({"control": works, "answered": answered}))
