"""The relay between a fast server and a slow client, in this process."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import self_signed
from controlplane.kit.tls import pinned_context, run_server_context
from controlplane.runner.admission import Admission
from controlplane.runner.lease import Lease
from controlplane.runner.ports import bind_port
from controlplane.runner.relay import Relay
from tests.runner.runs import GATEWAY

MIB = 1024 * 1024


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def nobody_to_ask() -> None:
    """The control plane is away."""


@asynccontextmanager
async def relayed(site, folder, clock, serve):
    """Yield a client's streams to `serve` through a relay with a lease of ten seconds, and the relay."""
    own, lease = self_signed("replica_1"), Lease(10.0, clock)
    lease.renew(clock())
    relay = Relay(Admission(GATEWAY, SystemClock().now), folder / "server.sock", lease, nobody_to_ask)
    bound = bind_port("127.0.0.1", 23000, 23999)
    async with await asyncio.start_unix_server(serve, folder / "server.sock"):
        await relay.listen(bound, run_server_context(own, site.ca_pem))
        context = pinned_context(own.certificate_pem.decode(), site.gateway)
        streams = await asyncio.open_connection(*bound.getsockname(), ssl=context, limit=65536)
        yield *streams, relay, lease
        streams[1].transport.abort()
        relay.cut()
        await relay.until_idle()


async def test_a_client_that_does_not_read_stops_the_server_from_writing(site, tmp_path, clock):
    written = 0

    async def pour(_reader, writer):
        nonlocal written
        while not writer.is_closing():
            writer.write(bytes(MIB))
            await writer.drain()
            written += 1
        writer.close()

    async with relayed(site, tmp_path, clock, pour) as (reader, _writer, _relay, _lease):
        before = -1
        while before != written:  # until two looks see the same
            before = written
            await asyncio.sleep(0.5)

        assert written < 40
        await reader.readexactly(60 * MIB)
        assert written > 40


async def test_bytes_that_arrive_after_the_lease_are_not_passed_on(site, tmp_path, clock):
    arrived, first = bytearray(), asyncio.Event()

    async def listen(reader, writer):
        while chunk := await reader.read(65536):
            arrived.extend(chunk)
            first.set()
        writer.close()

    async with relayed(site, tmp_path, clock, listen) as (reader, writer, relay, lease):
        lease.when_over(relay.cut)
        writer.write(b"before")
        await first.wait()

        clock.now += 10.0
        writer.write(b"after")

        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert arrived == b"before"


async def test_a_client_that_leaves_ends_the_servers_work(site, tmp_path, clock):
    left = asyncio.Event()

    async def wait_for_the_end(reader, writer):
        with suppress(ConnectionError):
            while await reader.read(65536):
                pass
        left.set()
        writer.close()

    async with relayed(site, tmp_path, clock, wait_for_the_end) as (_reader, writer, relay, _lease):
        writer.write(b"a question")
        await writer.drain()

        writer.close()

        async with asyncio.timeout(5):
            await left.wait()
            await relay.until_idle()
