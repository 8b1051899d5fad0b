"""A machine renews its certificate over real TLS, against the machine API and its database."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from sqlalchemy import func, select

from controlplane.client.renewal import Renewal
from controlplane.domains.pki.tables import IssuedCertificate
from controlplane.kit.certificates import uri_of
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.issuing import make_request, read_request
from controlplane.kit.leaf import Leaf
from controlplane.kit.tls import CertificateFiles
from controlplane.main.machine_link import connect_machine
from controlplane.main.settings import ControlPlaneLink
from tests.support.control_plane import ControlPlane, TestClock
from tests.support.machine_listener import HOURS, Machines, listening, uri


@pytest.fixture
async def machines(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Machines]:
    async with listening(plane, tmp_path) as found:
        yield found


class Holder:
    """A process that shows a pair and keeps it new."""

    def __init__(self, machines: Machines, files: CertificateFiles, http: httpx.AsyncClient, leaf: Leaf) -> None:
        self.files, self.http, self.leaf, self.clock = files, http, leaf, TestClock()
        self.renewal = Renewal(files, http, self.clock)
        self.first = self.present()

    def present(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.files.certificate.read_bytes())

    def is_renewed(self) -> bool:
        return self.present() != self.first


@asynccontextmanager
async def holder(machines: Machines, *, age: timedelta, name: str = "gpu1") -> AsyncIterator[Holder]:
    files = machines.pair(uri("node", name), age=age)
    leaf = Leaf(files)
    link = ControlPlaneLink(url=machines.url.removesuffix("/api/v1"))
    async with connect_machine(link, leaf, timeout_s=5) as http:
        http.headers["Host"] = "api"
        yield Holder(machines, files, http, leaf)


async def issued(plane: ControlPlane) -> int:
    async with plane.database.transaction() as tx:
        return await tx.session.scalar(select(func.count()).select_from(IssuedCertificate)) or 0


async def test_at_half_life_there_is_a_new_key_with_the_same_names(machines: Machines) -> None:
    async with holder(machines, age=28 * HOURS) as agent:
        await agent.renewal.look()

        fresh = agent.present()
        assert fresh.public_key() != agent.first.public_key()
        assert uri_of(fresh) == uri_of(agent.first)
        assert fresh.not_valid_after_utc > agent.first.not_valid_after_utc


async def test_before_half_life_nothing_is_asked(plane: ControlPlane, machines: Machines) -> None:
    async with holder(machines, age=23 * HOURS) as agent:
        await agent.renewal.look()

        assert not agent.is_renewed()
        assert await issued(plane) == 0


async def test_once_it_is_taken_up_the_control_plane_sees_the_new_one_on_the_same_client(machines: Machines) -> None:
    async with holder(machines, age=28 * HOURS) as agent:
        await agent.renewal.look()
        await agent.leaf.take_up()

        again = await agent.http.post("/api/v1/agent/certificates", json={"request_pem": make_request("")[1]})

        assert again.json()["code"] == "not_due"  # said of the leaf that this request showed


async def test_a_lapsed_certificate_renews_itself_within_the_grace(machines: Machines) -> None:
    async with holder(machines, age=100 * HOURS) as agent:
        await agent.renewal.look()

        assert agent.present().not_valid_after_utc > datetime.now(UTC)


async def test_a_clock_that_runs_ahead_is_told_so_and_nothing_changes(machines: Machines) -> None:
    async with holder(machines, age=2 * HOURS) as agent:
        agent.clock.move(30 * 3600)
        with pytest.raises(Refused) as refused:
            await agent.renewal.look()

        assert refused.value.code == "not_due"
        assert "time source" in refused.value.remedy
        assert not agent.is_renewed()


async def test_a_clock_that_runs_behind_does_not_keep_a_lapsed_certificate(machines: Machines) -> None:
    async with holder(machines, age=60 * HOURS) as agent:
        agent.clock.move(-50 * 3600)
        await agent.renewal.look()
        assert not agent.is_renewed()

        agent.renewal.call_lapsed()
        await agent.renewal.look()

        assert agent.is_renewed()


async def test_of_two_workers_one_renews_and_the_other_takes_it_up(plane: ControlPlane, machines: Machines) -> None:
    async with holder(machines, age=28 * HOURS) as agent:
        other = Renewal(agent.files, agent.http, agent.clock)

        await asyncio.gather(agent.renewal.look(), other.look())

        assert await issued(plane) == 1


async def test_an_answer_for_another_machine_is_not_laid_down(machines: Machines) -> None:
    files = machines.pair(uri(), age=28 * HOURS)

    def lie(request: httpx.Request) -> httpx.Response:
        key = read_request(x509_request(request)).key
        certificate = machines.sign(key, uri("node", "gpu2"))
        body = {"certificate_pem": certificate, "not_after": "2030-01-01T00:00:00Z", "now": "2026-01-01T00:00:00Z"}
        return httpx.Response(200, json=body)

    before = files.certificate.read_text()
    async with httpx.AsyncClient(base_url="http://liar", transport=httpx.MockTransport(lie)) as http:
        with pytest.raises(Refused, match="gpu2"):
            await Renewal(files, http, TestClock()).look()

    assert files.certificate.read_text() == before


async def test_silence_leaves_the_present_certificate_and_is_asked_again(machines: Machines) -> None:
    files = machines.pair(uri(), age=28 * HOURS)
    before = files.certificate.read_text()
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as http:
        renewal = Renewal(files, http, TestClock())
        for _ in range(2):
            with pytest.raises(Unavailable):
                await renewal.look()

    assert files.certificate.read_text() == before


def x509_request(request: httpx.Request) -> str:
    return str(json.loads(request.content)["request_pem"])
