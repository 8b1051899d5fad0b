"""The world outside a practice site answers everything, and nothing gets there unrecorded."""

import json
import os
import signal
import struct
from ipaddress import IPv4Address, IPv4Network

import pytest
from lab import answers, router
from lab.errors import LabError
from lab.packets import Packet, is_outside, read_frame
from lab.record import Node
from lab.shell import wait_until
from lab.site import Site

NETWORK, ROUTER = IPv4Network("10.77.0.0/24"), IPv4Address("10.77.0.254")
SITE = f"router-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
PING = ("ping", "-c1", "-W2")
QUESTION = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"
ASK = """
import socket, sys
kind, address, port, words = sys.argv[1:]
one = socket.socket(type=getattr(socket, kind))
one.settimeout(3)
one.connect((address, int(port)))
one.send(bytes.fromhex(words))
sys.stdout.write(one.recv(1000).hex())
"""


def ethernet(kind: int, body: bytes) -> bytes:
    return bytes(6) + bytes.fromhex("027700000010") + struct.pack("!H", kind) + body


def ipv4(protocol: int, destination: str, body: bytes) -> bytes:
    head = bytes([0x45, *bytes(8), protocol, 0, 0, *IPv4Address("10.77.0.10").packed, *IPv4Address(destination).packed])
    return ethernet(0x0800, head + body)


def arp(target: str) -> bytes:
    return ethernet(0x0806, bytes(14) + IPv4Address("10.77.0.10").packed + bytes(6) + IPv4Address(target).packed)


def packet_of(frame: bytes) -> Packet:
    packet = read_frame(frame, 0)
    assert packet
    return packet


def test_a_datagram_is_read_with_its_ports_and_first_bytes():
    packet = read_frame(ipv4(17, "192.0.2.1", struct.pack("!HHHH", 5000, 53, 10, 0) + b"hi"), 1.0)

    assert packet == Packet(1.0, "02:77:00:00:00:10", "udp", "10.77.0.10", "192.0.2.1", 5000, 53, b"hi".hex())


def test_what_stands_behind_an_ipv6_option_is_read():
    hop_by_hop = bytes([58, 0, *bytes(6)])
    frame = ethernet(0x86DD, bytes(6) + bytes([0, 64]) + bytes(32) + hop_by_hop + b"\x8f")

    assert packet_of(frame).protocol == "icmpv6"


@pytest.mark.parametrize("frame", [b"", bytes(14), ipv4(17, "192.0.2.1", b"")[:20], ethernet(0x0806, b"\0")])
def test_a_frame_that_is_cut_short_is_no_packet(frame):
    assert read_frame(frame, 0) is None


@pytest.mark.parametrize(
    ("frame", "outside"),
    [
        (ipv4(1, "192.0.2.1", b""), True),
        (ipv4(1, "169.254.169.254", b""), True),
        (ipv4(1, "224.0.0.1", b""), True),
        (ipv4(1, str(ROUTER), b""), True),
        (ipv4(1, "10.77.0.11", b""), False),
        (ipv4(1, "10.77.0.255", b""), False),
        (arp("10.77.0.11"), False),
        (arp(str(ROUTER)), False),
        (arp("192.0.2.1"), True),
        (ethernet(0x86DD, bytes(6) + bytes([58, 64]) + bytes(32)), True),
    ],
)
def test_what_is_not_for_the_site_is_outside(frame, outside):
    assert is_outside(packet_of(frame), NETWORK, ROUTER) is outside


def test_every_name_exists():
    answer = answers.dns_answer(QUESTION)

    assert answer[:2] == QUESTION[:2]
    assert answer.endswith(bytes([0, 4, *answers.FOUND_IPV4]))


@pytest.fixture(scope="module")
def site():
    """A site of two nodes without a packet filter, one of which has the router as its way out."""
    made = Site(SITE)
    made.down()
    made.up([Node("open", IPv4Address("10.77.0.10")), Node("shut", IPv4Address("10.77.0.11"))])
    made.ssh("open", "ip route add default via 10.77.0.254")
    yield made
    made.down()


@pytest.fixture
def recorded(site):
    """What the router records in this test alone."""
    router.ensure_router(site.name)
    router.clear(site.name)
    return lambda: router.records(site.name)


@pytest.mark.system
@pytest.mark.parametrize(
    ("kind", "port", "asked", "answer"),
    [
        ("SOCK_STREAM", 443, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200"),
        ("SOCK_STREAM", 3128, b"CONNECT a:443 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200"),
        ("SOCK_STREAM", 22, b"\0", b"220 "),
        ("SOCK_STREAM", 53, struct.pack("!H", len(QUESTION)) + QUESTION, b"\0"),
        ("SOCK_DGRAM", 53, QUESTION, QUESTION[:2]),
        ("SOCK_DGRAM", 123, bytes([0x23, *bytes(47)]), b"\x24\x01"),
        ("SOCK_DGRAM", 4444, b"hello", b"hello"),
    ],
)
def test_outside_answers_at_any_address_and_records_who_asked(site, recorded, kind, port, asked, answer):
    said = site.ssh("open", "python3", "-c", ASK, kind, "203.0.113.7", str(port), asked.hex()).stdout

    assert bytes.fromhex(said).startswith(answer)
    assert {(one.source, one.destination, one.destination_port) for one in recorded()} >= {
        ("10.77.0.10", "203.0.113.7", port)
    }


@pytest.mark.system
@pytest.mark.parametrize("address", ["192.0.2.1", "169.254.169.254", "10.77.0.254"])
def test_outside_answers_ping_and_records_it(site, recorded, address):
    answered = site.ssh("open", *PING, address, check=False).returncode == 0

    assert answered
    assert [(one.protocol, one.destination) for one in recorded() if one.protocol != "arp"] == [("icmp", address)]


@pytest.mark.system
def test_outside_answers_over_ipv6_and_records_it(site, recorded):
    site.ssh("open", "sysctl -qw net.ipv6.conf.host0.disable_ipv6=0")
    site.ssh("open", "ip -6 addr add fd77::10/64 dev host0 nodad; ip -6 route add default via fd77::254")

    answered = site.ssh("open", *PING, "2001:db8::1", check=False).returncode == 0
    site.ssh("open", "sysctl -qw net.ipv6.conf.host0.disable_ipv6=1")

    assert answered
    assert "2001:db8::1" in {one.destination for one in recorded()}


@pytest.mark.system
def test_what_nodes_say_to_each_other_is_not_recorded(site, recorded):
    site.ssh("open", *PING, "shut")
    site.ssh("shut", *PING, "192.0.2.1", check=False)

    assert recorded() == []


@pytest.mark.system
def test_a_recorder_that_died_is_an_error_and_never_an_empty_record(site, recorded):
    assert recorded() == []

    os.kill(int((site.home / "outside" / "pid").read_text()), signal.SIGKILL)
    assert wait_until(lambda: not router.is_recording(site.name), timeout_s=5)

    with pytest.raises(LabError, match="nothing records"):
        recorded()
    router.ensure_router(site.name)
    with pytest.raises(LabError, match="started anew"):
        recorded()


@pytest.mark.system
def test_a_record_is_plain_data(site, recorded):
    site.ssh("open", *PING, "192.0.2.1")

    lines = (site.home / "outside" / "packets.jsonl").read_text().splitlines()

    assert {"at", "protocol", "source", "destination"} <= set(json.loads(lines[0]))
