"""The world outside the boundary, as a process: it answers whatever is asked and records whatever comes out.

`python -m lab.outside FOLDER`, inside the namespace that stands where the uplink would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from lab import answers
from lab.network import CONTROLLER, NETWORK, ROUTER, ROUTER_LINK
from lab.packets import Packet, is_outside, read_frame

CHECK_PORT = 40404
CHECK = b"redoubt-trap-check:"
ALL_FRAMES, SOL_PACKET, STATISTICS = 3, 263, 6
OUTGOING = 4
BUFFER_BYTES = 32 << 20
SNAP_BYTES = 256


class Recorder:
    """Writes every packet for the outside to a file, and what else it saw to a tally beside it."""

    def __init__(self, folder: Path) -> None:
        """Listen on the link into the boundary."""
        self._tally_path = folder / "tally.json"
        self._tally: dict[str, int | str] = {"arp": 0, "inside": 0, "other": 0, "missed": 0, "check": ""}
        self._out = (folder / "packets.jsonl").open("a", buffering=1)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(ALL_FRAMES))
        self.socket.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), BUFFER_BYTES)
        self.socket.bind((ROUTER_LINK, ALL_FRAMES))
        self._save()

    def read(self) -> None:
        """Take in what has come."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(500):
                frame, (_, _, kind, _, _) = self.socket.recvfrom(SNAP_BYTES)
                if kind != OUTGOING:
                    self._take(frame)
        _, missed = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, STATISTICS, 8))
        self._count("missed", missed)
        self._save()

    def _take(self, frame: bytes) -> None:
        packet = read_frame(frame, time.time())
        if packet is None:
            self._count("other")
        elif _is_check(packet):
            self._tally["check"] = bytes.fromhex(packet.first_bytes).removeprefix(CHECK).decode(errors="replace")
        elif is_outside(packet, NETWORK, ROUTER):
            self._out.write(json.dumps(packet.as_json()) + "\n")
        else:
            self._count("arp" if packet.protocol == "arp" else "inside")

    def _count(self, kind: str, more: int = 1) -> None:
        self._tally[kind] = int(self._tally[kind]) + more

    def _save(self) -> None:
        fresh = self._tally_path.with_suffix(".new")
        fresh.write_text(json.dumps(self._tally))
        fresh.replace(self._tally_path)


def _is_check(packet: Packet) -> bool:
    return (
        packet.source == str(CONTROLLER)
        and packet.destination_port == CHECK_PORT
        and bytes.fromhex(packet.first_bytes).startswith(CHECK)
    )


async def _serve(folder: Path) -> None:
    loop, recorder, ended = asyncio.get_running_loop(), Recorder(folder), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(recorder.socket, recorder.read)
    await answers.listen()
    (folder / "pid").write_text(str(os.getpid()))
    await ended.wait()


def main() -> int:
    """Answer and record until told to end; the lock says that this process lives."""
    folder = Path(sys.argv[1])
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        asyncio.run(_serve(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
