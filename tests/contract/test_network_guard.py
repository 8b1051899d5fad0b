import asyncio
import socket

import httpx
import pytest

from tests.support.network import OutsideReachedError


def test_a_connection_to_another_machine_is_refused_before_a_packet_leaves():
    with socket.socket() as sock, pytest.raises(OutsideReachedError, match=r"192\.0\.2\.1"):
        sock.connect(("192.0.2.1", 443))


def test_a_datagram_to_another_machine_is_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(OutsideReachedError):
        sock.sendto(b"x", ("192.0.2.1", 53))


def test_a_name_lookup_is_refused():
    with pytest.raises(OutsideReachedError, match=r"example\.org"):
        socket.getaddrinfo("example.org", 443)


async def test_asyncio_cannot_reach_another_machine():
    with pytest.raises(OutsideReachedError):
        await asyncio.open_connection("192.0.2.1", 443)


def test_a_client_library_cannot_swallow_the_refusal():
    with pytest.raises(OutsideReachedError):
        httpx.get("https://example.org/", timeout=1)


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
