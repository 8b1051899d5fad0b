"""A gateway in this process on real sockets, and replicas that behave as a script tells them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import httpx

from controlplane.contracts.snapshot import Snapshot, SnapshotEndpoint, SnapshotKey, SnapshotReplica, SnapshotSecret
from controlplane.gateway.client_connection import ClientConnection
from controlplane.gateway.hub import Hub
from controlplane.gateway.limits import Limits
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import self_signed
from controlplane.kit.tls import CertificateFiles, pinned_context, run_server_context
from tests.support.journals import MemoryJournal

KEY = "rdk_test"
ASK = b'{"model":"chat","messages":[{"role":"user","content":"hello"}],"max_tokens":40}'
STREAMED = b'{"model":"chat","messages":[{"role":"user","content":"hello"}],"max_tokens":40,"stream":true}'
COMPLETION = (
    b'{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
)


@dataclass
class Request:
    head: bytes
    body: bytes


@dataclass
class Call:
    """One request on one connection of a replica; a script answers it."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = COMPLETION, status: str = "200 OK", extra: bytes = b"") -> None:
        head = b"HTTP/1.1 %b\r\nServer: secret-engine\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        await self.send(head % (status.encode(), extra, len(body)) + body)

    async def begin_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nServer: secret-engine\r\n"
            b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def event(self, word: str) -> None:
        await self.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % word.encode())

    async def chunk(self, payload: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(payload), payload))

    async def end_stream(self) -> None:
        await self.chunk(b"data: [DONE]\n\n")
        await self.send(b"0\r\n\r\n")

    def die(self) -> None:
        """End the connection with a reset, as a killed process does."""
        self.writer.transport.abort()

    async def until_hung_up(self) -> None:
        await self.reader.read(1)


Script = Callable[[Call], Awaitable[None]]


async def say_hi(call: Call) -> None:
    if b'"stream":true' not in call.request.body:
        await call.answer()
        return
    await call.begin_stream()
    for word in ("one", " two", " three"):
        await call.event(word)
    await call.end_stream()


@dataclass
class ScriptedReplica:
    """A replica's door as a runner has it: its own certificate, and the client must show one of the site."""

    name: str
    script: Script
    port: int = 0
    certificate_pem: str = ""
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    open_writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def spec(self) -> SnapshotReplica:
        return SnapshotReplica(
            replica_id=self.name, host="127.0.0.1", port=self.port, certificate_pem=self.certificate_pem
        )

    async def start(self, ca: Path) -> None:
        pair = self_signed(self.name)
        self.certificate_pem = pair.certificate_pem.decode()
        context = run_server_context(pair, ca.read_text())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self.open_writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_writers.add(writer)
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                await self.script(Call(request, reader, writer))
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            self.open_writers.discard(writer)
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        return Request(head, await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


@dataclass
class Gateway:
    """A gateway on a port, with a snapshot that the test writes."""

    hub: Hub
    port: int
    journal: MemoryJournal
    version: int = 0

    def adopt(self, *replicas: SnapshotReplica, keys: tuple[SnapshotKey, ...] = (), expires_in_s: float = 60) -> None:
        self.version += 1
        self.hub.adopt(snapshot(self.version, replicas, keys or (key(KEY),), expires_in_s=expires_in_s))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {KEY}"})

    async def chat(self, body: bytes = ASK, headers: dict[str, str] | None = None) -> httpx.Response:
        async with self.client() as client:
            return await client.post("/v1/chat/completions", content=body, headers=headers)

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes as they are; return all that comes until the gateway closes."""
        reader, writer = await self.connect()
        writer.write(data)
        if half_close:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.transport.abort()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


def snapshot(
    version: int,
    replicas: tuple[SnapshotReplica, ...],
    keys: tuple[SnapshotKey, ...],
    *,
    expires_in_s: float = 60,
    site: str = "test",
) -> Snapshot:
    now = datetime.now(UTC)
    endpoints = (endpoint("chat", replicas), endpoint("hidden", replicas), endpoint("empty", ()))
    return Snapshot(
        site=site,
        version=version,
        issued_at=now,
        expires_at=now + timedelta(seconds=expires_in_s),
        keys=keys,
        endpoints=endpoints,
    )


def endpoint(name: str, replicas: tuple[SnapshotReplica, ...]) -> SnapshotEndpoint:
    return SnapshotEndpoint(
        name=name,
        endpoint_id=f"endpoint_{name}",
        revision_id=f"revision_{name}",
        zone="eu-north",
        context_tokens=512,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        replicas=replicas,
    )


def key(
    *secrets: str,
    endpoints: tuple[str, ...] = (),
    expires_at: datetime | None = None,
    zones: tuple[str, ...] = (),
    purposes: tuple[str, ...] = ("general",),
    classification: int = 1,
    sources: tuple[str, ...] = (),
) -> SnapshotKey:
    ends_at = expires_at or datetime.now(UTC) + timedelta(days=90)
    return SnapshotKey(
        key_id=f"key_{secrets[0]}",
        project="blue",
        secrets=tuple(
            SnapshotSecret(secret_id=f"secret_{s}", sha256=sha256(s.encode()).hexdigest(), expires_at=ends_at)
            for s in secrets
        ),
        endpoints=endpoints,
        zones=zones,
        purposes=purposes,
        classification=classification,
        sources=sources,
    )


def post(body: bytes = ASK, *extra: bytes, secret: str = KEY) -> bytes:
    """Return a whole chat request."""
    lines = (b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Authorization: Bearer %b" % secret.encode(), *extra)
    return b"\r\n".join((*lines, b"Content-Length: %d" % len(body), b"", body))


@asynccontextmanager
async def running_gateway(files: CertificateFiles, limits: Limits) -> AsyncIterator[Gateway]:
    journal = MemoryJournal()
    hub = Hub(
        limits=limits,
        clock=SystemClock(),
        context_for=lambda r: pinned_context(r.certificate_pem, files),
        journal=journal,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientConnection(hub), "127.0.0.1", 0)
    sweeping = loop.create_task(_sweep(hub))
    try:
        yield Gateway(hub, server.sockets[0].getsockname()[1], journal)
    finally:
        sweeping.cancel()
        server.close()
        for connection in tuple(hub.connections):
            connection.abort()
        hub.adopt(snapshot(0, (), ()))  # cuts every link
        await asyncio.sleep(0)


async def _sweep(hub: Hub) -> None:
    while True:
        await asyncio.sleep(hub.limits.sweep_s)
        hub.sweep()


class Stage:
    """Starts replicas and gateways, and ends them with the test."""

    def __init__(self, files: CertificateFiles, stack: AsyncExitStack) -> None:
        self._files = files
        self._stack = stack

    async def replica(self, script: Script = say_hi, name: str = "replica_a") -> ScriptedReplica:
        replica = ScriptedReplica(name, script)
        await replica.start(self._files.ca)
        self._stack.push_async_callback(replica.stop)
        return replica

    async def gateway(self, *replicas: ScriptedReplica, **limits: float) -> Gateway:
        quick = Limits(**{"sweep_s": 0.02, **limits})  # type: ignore[arg-type] # numbers by the fields' own names
        gateway = await self._stack.enter_async_context(running_gateway(self._files, quick))
        gateway.adopt(*(replica.spec for replica in replicas))
        return gateway
