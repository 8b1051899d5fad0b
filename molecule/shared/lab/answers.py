"""Answers of a helpful internet: TCP says something, UDP echoes, every name exists, the time is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

# The router's packet filter turns every port into one of these.
TCP_PORT, DNS_PORT, NTP_PORT, ECHO_PORT = 80, 53, 123, 7
FOUND_IPV4 = bytes((198, 51, 100, 53))
FOUND_IPV6 = bytes.fromhex("20010db8000000000000000000000053")
GREETING = b"220 you are outside the boundary\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\noutside the boundary"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
NTP_EPOCH_S = 2_208_988_800


async def listen() -> None:
    """Open every door."""
    loop = asyncio.get_running_loop()
    for family in (socket.AF_INET, socket.AF_INET6):
        await asyncio.start_server(_talk, sock=_opened(family, socket.SOCK_STREAM, TCP_PORT))
        await asyncio.start_server(_name_service, sock=_opened(family, socket.SOCK_STREAM, DNS_PORT))
        for port, answer in ((DNS_PORT, dns_answer), (NTP_PORT, ntp_answer), (ECHO_PORT, bytes)):
            door = _opened(family, socket.SOCK_DGRAM, port)
            await loop.create_datagram_endpoint(partial(_Datagrams, answer), sock=door)


def _opened(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    door = socket.socket(family, kind)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    door.bind(("", port))
    return door


def dns_answer(question: bytes) -> bytes:
    """Say that the name exists, at an address of the outside."""
    end = question.index(b"\0", 12) + 5
    asked = question[12:end]
    (kind,) = struct.unpack_from("!H", asked, len(asked) - 4)
    found = FOUND_IPV6 if kind == 28 else FOUND_IPV4
    header = question[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    return header + asked + struct.pack("!HHHIH", 0xC00C, 28 if kind == 28 else 1, 1, 60, len(found)) + found


def ntp_answer(question: bytes) -> bytes:
    """Tell the time as a server of stratum 1 would."""
    now = struct.pack("!II", int(time.time()) + NTP_EPOCH_S, 0)
    return bytes((0x24, 1, 6, 0xEC)) + bytes(8) + b"GPS\0" + now + question[40:48].ljust(8, b"\0") + now + now


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # asyncio types it by its base

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with contextlib.suppress(ValueError, struct.error, OSError):
            self._transport.sendto(self._answer(data), addr)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        asked = b""
        with contextlib.suppress(TimeoutError):
            asked = await asyncio.wait_for(reader.read(4096), timeout=0.3)
        writer.write(_reply(asked))
        await writer.drain()
        if asked.startswith(b"CONNECT "):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(4096), timeout=1)
        writer.close()


def _reply(asked: bytes) -> bytes:
    if asked.startswith(b"CONNECT "):
        return ESTABLISHED
    return PAGE if b" HTTP/1." in asked else GREETING


async def _name_service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = dns_answer(await reader.readexactly(length))
        writer.write(struct.pack("!H", len(answer)) + answer)
        await writer.drain()
    writer.close()
