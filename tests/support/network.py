"""No test reaches another machine: an audit hook refuses before a packet leaves."""

import ipaddress
import sys

HERE = {"", "localhost"}


class OutsideReachedError(BaseException):
    """A test asked for the network. BaseException, so that no retry swallows it."""


def close_the_network() -> None:
    """Refuse connects, sends and name lookups of Python sockets but for loopback and unix; uvloop is not seen."""
    sys.addaudithook(_refuse_outside)


def _refuse_outside(event: str, args: tuple[object, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # a unix socket's address is a string
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if isinstance(host, str) and not _is_here(host):
        raise OutsideReachedError(f"{event} to {host}: tests reach loopback and unix sockets only")


def _is_here(host: str) -> bool:
    try:
        return host in HERE or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
