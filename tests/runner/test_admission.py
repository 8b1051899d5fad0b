"""Which gateways a run lets in when certificates lapse, clocks move and machines are revoked: over real TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controlplane.contracts.runs import RefusedMachine
from controlplane.kit.crypto import self_signed
from controlplane.kit.tls import CertificateFiles, pinned_context, run_server_context
from controlplane.runner.admission import Admission, Shown
from controlplane.runner.lease import Lease
from controlplane.runner.ports import bind_port
from controlplane.runner.relay import Relay
from tests.support.certificates import make_issuer
from tests.support.control_plane import TestClock
from tests.support.machine_listener import HOURS, Machines, uri
from tests.support.machines import site_ca

GATEWAY = uri("service", "gateway")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Run:
    """A run that serves, and gateways that knock at it."""

    def __init__(self, port: int, pem: str, relay: Relay, clock: TestClock) -> None:
        self.port, self.pem, self.relay, self.clock = port, pem, relay, clock
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, files: CertificateFiles) -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", self.port, ssl=pinned_context(self.pem, files))
        self.writers.append(streams[1])
        return streams

    async def admits(self, files: CertificateFiles) -> bool:
        try:
            streams = await self.connect(files)
            return await answers(streams)
        except (ConnectionError, asyncio.IncompleteReadError):
            return False


async def answers(streams: Streams) -> bool:
    try:
        streams[1].write(b"hello")
        return await asyncio.wait_for(streams[0].readexactly(5), 5) == b"hello"
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Run]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(100):
            writer.write(chunk)
        writer.close()

    async def nobody_to_ask() -> None:
        """The control plane is away."""

    clock, own, lease = TestClock(), self_signed("replica_1"), Lease(10.0, lambda: 0.0)
    lease.renew(0.0)
    relay = Relay(Admission(GATEWAY, clock.now), folder / "server.sock", lease, nobody_to_ask)
    bound = bind_port("127.0.0.1", 24000, 24999)
    async with await asyncio.start_unix_server(echo, folder / "server.sock"):
        await relay.listen(bound, run_server_context(own, site_ca().path.read_text()))
        run = Run(bound.getsockname()[1], own.certificate_pem.decode(), relay, clock)
        yield run
        for writer in run.writers:
            writer.transport.abort()
        relay.cut()
        await relay.until_idle()


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path, make_issuer(site_ca()), 0)


async def test_a_gateway_that_this_run_knew_is_served_on_when_its_certificate_lapses(
    tmp_path: Path, machines: Machines
) -> None:
    async with serving(tmp_path) as run:
        gateway = machines.leaf(GATEWAY)
        open_one = await run.connect(gateway)
        assert await answers(open_one)

        run.clock.move(72 * 3600)

        assert await answers(open_one)
        assert await run.admits(gateway)


async def test_a_lapsed_certificate_that_this_run_never_saw_in_its_time_stays_outside(
    tmp_path: Path, machines: Machines
) -> None:
    async with serving(tmp_path) as run:
        assert not await run.admits(machines.leaf(GATEWAY, age=60 * HOURS))

        assert await run.admits(machines.leaf(GATEWAY))
        assert not await run.admits(machines.leaf(GATEWAY, age=50 * HOURS))


async def test_once_the_successor_was_seen_the_old_key_does_not_outlive_its_certificate(
    tmp_path: Path, machines: Machines
) -> None:
    async with serving(tmp_path) as run:
        old, new = machines.leaf(GATEWAY, age=24 * HOURS), machines.leaf(GATEWAY, age=HOURS)
        assert await run.admits(old)
        assert await run.admits(new)
        assert await run.admits(old)  # another worker of the gateway that has not yet taken the new one up

        run.clock.move(30 * 3600)

        assert not await run.admits(old)
        assert await run.admits(new)


async def test_a_revoked_machine_loses_its_open_connections_and_gets_no_new_ones(
    tmp_path: Path, machines: Machines
) -> None:
    async with serving(tmp_path) as run:
        gateway = machines.leaf(GATEWAY)
        open_one = await run.connect(gateway)
        assert await answers(open_one)

        run.relay.refuse((RefusedMachine(machine="gpu1"),))

        assert not await answers(open_one)
        assert not await run.admits(gateway)
        run.relay.refuse((RefusedMachine(machine="gpu1", before=datetime.now(UTC) - timedelta(minutes=5)),))
        assert not await run.admits(gateway)
        assert await run.admits(machines.leaf(GATEWAY, age=timedelta(minutes=1)))


async def test_other_services_and_nodes_stay_outside(tmp_path: Path, machines: Machines) -> None:
    async with serving(tmp_path) as run:
        assert not await run.admits(machines.leaf(uri("service", "retrieval")))
        assert not await run.admits(machines.leaf(uri("node", "gateway")))


@pytest.mark.parametrize(("ahead_s", "admitted"), [(60, True), (600, False)])
def test_a_certificate_of_tomorrow_names_the_clock(ahead_s: int, admitted: bool) -> None:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    start = now + timedelta(seconds=ahead_s)

    why = Admission(GATEWAY, lambda: now).refusal(Shown(GATEWAY, "gpu1", "5e", start, start + 48 * HOURS))

    assert (why == "") == admitted
    assert admitted or now.isoformat() in why
