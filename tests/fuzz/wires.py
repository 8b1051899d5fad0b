"""A gateway without sockets: its connections are fed by hand, so that thousands of them pass in a second."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import get_args

import httptools

from controlplane.contracts.snapshot import SnapshotReplica, Surface
from controlplane.gateway.client_connection import ClientConnection
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits
from controlplane.gateway.link import Link
from controlplane.kit.clock import SystemClock
from tests.gateway.stage import KEY, key, snapshot
from tests.support.journals import MemoryJournal

_LINKS = 4
_TURNS = 400


class Wire(asyncio.Transport):
    """One end of a connection; what is written to it is kept, or heard by `on_write`."""

    def __init__(self, protocol: asyncio.Protocol, line: socket.socket, on_write: Callable[[], object] = lambda: None):
        super().__init__({"peername": ("127.0.0.1", 1), "socket": line})
        self._protocol = protocol
        self._on_write = on_write
        self.sent = bytearray()
        self._closing = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self.sent += data
            self._on_write()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """The client hears that no more comes; here nobody listens for it."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def feed(self, data: bytes) -> None:
        if data and not self._closing:
            self._protocol.data_received(data)

    def hang_up(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()


@dataclass
class Fuzzed:
    """One gateway and the loop it runs in. `faults` are exceptions that nobody caught."""

    loop: asyncio.AbstractEventLoop
    hub: Hub
    journal: MemoryJournal
    line: socket.socket
    faults: list[str] = field(default_factory=list)

    def visit(self, pieces: Sequence[bytes], answers: Sequence[Sequence[bytes]]) -> bytes:
        """Send the pieces on one connection; engines answer in turn, and hang up when they run out of words."""
        return self.loop.run_until_complete(self._visit(pieces, answers))

    async def _visit(self, pieces: Sequence[bytes], answers: Sequence[Sequence[bytes]]) -> bytes:
        self._lay_links(list(answers))
        client = Wire(ClientConnection(self.hub), self.line)
        for piece in pieces:
            client.feed(piece)
            await asyncio.sleep(0)
        await self._settle(lambda: client.is_closing() or not self._busy())
        client.hang_up()
        await self._settle(lambda: not self.hub.connections and not self._busy())
        return bytes(client.sent)

    def _busy(self) -> bool:
        return any(replica.standing.running for replica in self.replicas) or len(self.journal.outcomes) < len(
            self.journal.intents
        )

    @property
    def replicas(self):
        return self.hub._replicas.values()  # noqa: SLF001 - the counts are what is looked at

    async def _settle(self, done: Callable[[], bool]) -> None:
        for _ in range(_TURNS):
            if done():
                return
            await asyncio.sleep(0)

    def _lay_links(self, answers: list[Sequence[bytes]]) -> None:
        """Give every replica idle links; an engine hears a request at its first byte."""
        loop = self.loop
        for replica in self.replicas:
            replica.close_idle(before=float("inf"))
            for _ in range(_LINKS):
                link = Link(replica, self.hub.limits.answer_bytes)
                Wire(link, self.line, on_write=partial(loop.call_soon, _answer, link, answers))
                replica.link_freed(link)


def _answer(link: Link, answers: list[Sequence[bytes]]) -> None:
    for piece in answers.pop(0) if answers else ():
        if link.usable:
            link.data_received(piece)
    if link.usable:
        link.eof_received()
        link.close()


def make_fuzzed() -> Fuzzed:
    loop = asyncio.new_event_loop()
    journal = MemoryJournal()

    async def make() -> Hub:
        limits = Limits(connect_s=0.05)
        return Hub(limits=limits, clock=SystemClock(), context_for=lambda _: None, journal=journal)

    hub = loop.run_until_complete(make())
    specs = [SnapshotReplica(replica_id=f"r{n}", host="127.0.0.1", port=1, certificate_pem="") for n in range(3)]
    plain = snapshot(1, tuple(specs), (key(KEY),), expires_in_s=86_400)
    served = [endpoint.model_copy(update={"surfaces": get_args(Surface)}) for endpoint in plain.endpoints]
    hub.adopt(plain.model_copy(update={"endpoints": tuple(served)}))
    fuzzed = Fuzzed(loop, hub, journal, socket.socket())
    loop.set_exception_handler(lambda _, context: fuzzed.faults.append(repr(context)))
    return fuzzed


class Answers:
    """The answers in what a client was sent, read as strictly as nginx would."""

    def __init__(self) -> None:
        self.found: list[tuple[int, bytes]] = []
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        self.found.append((self._parser.get_status_code(), self._body))
        self._body = b""


def read_answers(sent: bytes) -> list[tuple[int, bytes]]:
    """Return status and body of every whole answer. Raises HttpParserError."""
    answers = Answers()
    answers._parser.feed_data(sent)  # noqa: SLF001 - its own
    return answers.found
