"""What a frame carries, as far as somebody who asks `who tried to leave?` wants to know."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
OPTIONS = (0, 43, 60)  # IPv6 headers that stand before what is carried
FIRST_BYTES = 48


@dataclass(frozen=True)
class Packet:
    """One packet. `first_bytes` are the first bytes of what it carries, in hexadecimal; ports are 0 where none are."""

    at: float
    mac: str
    protocol: str
    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    first_bytes: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.protocol} {self.source}:{self.source_port} -> {self.destination}:{self.destination_port}"

    def as_json(self) -> dict[str, object]:
        """Return the plain data of one line of the record."""
        return asdict(self)


def read_frame(frame: bytes, at: float) -> Packet | None:
    """Read an Ethernet frame; None when it carries neither ARP nor IP, or is cut short."""
    try:
        mac, (kind,) = frame[6:12].hex(":"), struct.unpack_from("!H", frame, 12)
        match kind:
            case 0x0806:
                return _arp(frame[14:], mac, at)
            case 0x0800:
                return _ipv4(frame[14:], mac, at)
            case 0x86DD:
                return _ipv6(frame[14:], mac, at)
            case _:
                return None
    except (struct.error, ValueError, IndexError):
        return None


def _arp(data: bytes, mac: str, at: float) -> Packet:
    source, destination = IPv4Address(data[14:18]), IPv4Address(data[24:28])
    return Packet(at, mac, "arp", str(source), str(destination))


def _ipv4(data: bytes, mac: str, at: float) -> Packet:
    body = data[(data[0] & 0x0F) * 4 :]
    return _carried(data[9], body, mac, at, str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20])))


def _ipv6(data: bytes, mac: str, at: float) -> Packet:
    kind, body = data[6], data[40:]
    while kind in OPTIONS:
        kind, body = body[0], body[(body[1] + 1) * 8 :]
    return _carried(kind, body, mac, at, str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40])))


def _carried(number: int, body: bytes, mac: str, at: float, source: str, destination: str) -> Packet:
    protocol, ports, payload = PROTOCOLS.get(number, str(number)), (0, 0), body
    if protocol in ("tcp", "udp"):
        ports = struct.unpack_from("!HH", body)
        payload = body[(body[12] >> 4) * 4 :] if protocol == "tcp" else body[8:]
    return Packet(at, mac, protocol, source, destination, *ports, payload[:FIRST_BYTES].hex())


def is_outside(packet: Packet, network: IPv4Network, router: IPv4Address) -> bool:
    """Tell whether a packet was for somebody who is not of the site; who asks for the router is not out yet."""
    address = ip_address(packet.destination)
    if address not in network:
        return True
    return address == router and packet.protocol != "arp"
