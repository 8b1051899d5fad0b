"""A port of our own, bound before anybody is told about it."""

import random
import socket
from urllib.parse import urlsplit

from controlplane.runner.surroundings import FAILED, RunOver


def bind_port(host: str, first: int, last: int) -> socket.socket:
    """Bind a free port in first..last, starting anywhere; not yet listening, so early callers are refused."""
    ports = list(range(first, last + 1))
    random.shuffle(ports)
    problem = "the range is empty"
    for port in ports:
        candidate = _tcp_socket(host)
        try:
            candidate.bind((host, port))
        except OSError as error:
            candidate.close()
            problem = str(error)
        else:
            return candidate
    raise RunOver(FAILED, f"no free port on {host} between {first} and {last}: {problem}")


def _tcp_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
    return made


def address_towards(url: str) -> str:
    """Return this host's address on the way to the server of `url`; no packet is sent."""
    parts = urlsplit(url)
    found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM)
    family, kind, protocol, _name, target = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])
