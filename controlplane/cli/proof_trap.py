"""A recorder outside the boundary, whoever's it is: a file that grows, or a command that is asked before and after.

A file holds JSON lines with `at, source, destination, protocol, port`; the recorder is awake if it wrote down the
canary, a datagram that this machine sends to the site's router. A command is run as `COMMAND begin RUN` and then as
`COMMAND end RUN`, which prints `{"recorder": …, "packets": [the same]}`; it fails when its recorder is not awake.
"""

import json
import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from controlplane.contracts.proof import Trap, TrappedPacket

CANARY_PORT = 9  # discard
CANARY = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (sys.argv[2], {port}))"
CANARY_S = 5.0
COMMAND_S = 30.0
PACKETS = TypeAdapter(tuple[TrappedPacket, ...])


@dataclass(frozen=True)
class Around:
    """What a recorder needs to know: who sends the canary, to whom, and the words that run a command at the sender."""

    run: str
    controller: str
    router: str | None
    enter: Sequence[str]


class Recorder(Protocol):
    def begin(self) -> str:
        """Start listening; return why that is impossible, or nothing."""
        ...

    def end(self) -> Trap:
        """Return what was heard since."""
        ...


def open_trap(given: str | None, around: Around) -> Recorder | None:
    """Return the recorder that was named: an existing file, else a command."""
    if not given:
        return None
    path = Path(given)
    return FileRecorder(path, around) if path.is_file() else CommandRecorder(given, around)


class FileRecorder:
    """Reads what a recorder appends to its file while the proof runs."""

    def __init__(self, path: Path, around: Around) -> None:
        self._path, self._around, self._start = path, around, 0

    def begin(self) -> str:
        self._start = self._path.stat().st_size
        return ""

    def end(self) -> Trap:
        name, error = str(self._path), self._send_canary()
        try:
            packets = self._wait(0 if error else CANARY_S)
        except (OSError, ValueError) as wrong:
            return Trap(recorder=name, heard_canary=False, error=f"cannot read it: {type(wrong).__name__}")
        heard = self._heard(packets)
        return Trap(recorder=name, heard_canary=heard, packets=_strange(packets, self._around), error=error)

    def _wait(self, within_s: float) -> tuple[TrappedPacket, ...]:
        """Read until the canary is there, or time is up; what was sent before it is written down before it."""
        deadline = time.monotonic() + within_s
        while not self._heard(packets := self._read()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return packets

    def _read(self) -> tuple[TrappedPacket, ...]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            lines = file.read().splitlines(keepends=True)
        whole = (json.loads(line) for line in lines if line.endswith(b"\n"))
        return PACKETS.validate_python(list(whole), strict=False)

    def _heard(self, packets: Iterable[TrappedPacket]) -> bool:
        return any((p.source, p.port) == (self._around.controller, CANARY_PORT) for p in packets)

    def _send_canary(self) -> str:
        if self._around.router is None:
            return "the site declares no router, so no canary could be sent"
        words = ("python3", "-c", CANARY.format(port=CANARY_PORT), self._around.run, self._around.router)
        done = subprocess.run([*self._around.enter, *words], capture_output=True, text=True, check=False)
        return done.stderr.strip()[-200:]


class CommandRecorder:
    """Asks a command that speaks for a recorder."""

    def __init__(self, command: str, around: Around) -> None:
        self._words, self._around, self._error = shlex.split(command), around, ""

    def begin(self) -> str:
        self._error = self._ask("begin")[1]
        return self._error

    def end(self) -> Trap:
        said, error = ("", self._error) if self._error else self._ask("end")
        name = Path(self._words[0]).name if self._words else "none"
        if error:
            return Trap(recorder=name, heard_canary=False, error=error)
        try:
            found = json.loads(said)
            packets = PACKETS.validate_python(found["packets"], strict=False)
            return Trap(recorder=str(found["recorder"]), heard_canary=True, packets=_strange(packets, self._around))
        except (ValueError, KeyError, TypeError, ValidationError):
            return Trap(recorder=name, heard_canary=False, error="it said something else than what was recorded")

    def _ask(self, verb: str) -> tuple[str, str]:
        """Return what the command says, or why it says nothing."""
        try:
            done = subprocess.run(
                [*self._words, verb, self._around.run], capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as wrong:
            return "", f"{type(wrong).__name__}: {wrong}"
        return done.stdout, "" if done.returncode == 0 else (done.stderr.strip()[-200:] or f"exit {done.returncode}")


def _strange(packets: Iterable[TrappedPacket], around: Around) -> tuple[TrappedPacket, ...]:
    """Return every packet but this machine's own: it stands outside the nodes, and its canary must arrive."""
    return tuple(packet for packet in packets if packet.source != around.controller)
