import asyncio
import itertools
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.agent.gpus import GpuInventory
from controlplane.agent.reports import Observer, Reporter
from controlplane.contracts.agent import NodeReport
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Unavailable
from controlplane.kit.loop import run_every
from controlplane.kit.tls import CertificateFiles, client_context
from tests.support.certificates import SiteCa, issue, make_site_ca
from tests.support.machine_api import MachineApi, machine_api

NODE = "redoubt://test/zone/eu-1/node/gpu1"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> SiteCa:
    return make_site_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def api_files(ca: SiteCa) -> CertificateFiles:
    return issue(ca, "api")


@pytest.fixture(scope="module")
def node_files(ca: SiteCa) -> CertificateFiles:
    return issue(ca, "node", uri=NODE)


@pytest.fixture
def api(api_files: CertificateFiles) -> Iterator[MachineApi]:
    with machine_api(api_files) as api:
        yield api


def client(url: str, files: CertificateFiles) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, verify=client_context(files.ca, files), timeout=5, trust_env=False)


def observer(inventory: GpuInventory | None = None) -> Observer:
    return Observer(lambda: inventory or GpuInventory(), Path("/"), SystemClock(), "1.2.3")


def sequences(api: MachineApi) -> list[int]:
    return [NodeReport.model_validate_json(received.body).sequence for received in api.received]


async def test_a_report_arrives_under_the_name_in_the_nodes_certificate(api: MachineApi, node_files: CertificateFiles):
    async with client(api.url, node_files) as http:
        await Reporter(http, observer()).report()

    (received,) = api.received
    assert (received.path, received.uris) == ("/api/v1/agent/reports", [NODE])
    assert NodeReport.model_validate_json(received.body).agent_version == "1.2.3"


async def test_the_sequence_grows(api: MachineApi, node_files: CertificateFiles):
    async with client(api.url, node_files) as http:
        reporter = Reporter(http, observer())
        for _ in range(3):
            await reporter.report()

    assert sequences(api) == [1, 2, 3]


async def test_readings_from_an_outage_are_not_sent_later(api: MachineApi, node_files: CertificateFiles):
    async with client(api.url, node_files) as http:
        reporter = Reporter(http, observer())
        api.status = 503
        for _ in range(2):
            with pytest.raises(Unavailable, match="answered 503"):
                await reporter.report()
        api.received.clear()
        api.status = 204
        await reporter.report()

    assert sequences(api) == [3]


async def test_the_loop_outlives_an_api_that_is_away_and_comes_back(
    api_files: CertificateFiles, node_files: CertificateFiles
):
    with machine_api(api_files) as first:
        port = first.port
    reads: list[GpuInventory] = []

    def read_gpus() -> GpuInventory:
        reads.append(GpuInventory())
        return reads[-1]

    node = Observer(read_gpus, Path("/"), SystemClock(), "1.2.3")
    async with client(f"https://localhost:{port}", node_files) as http:
        loop = asyncio.create_task(run_every("report", 0.01, Reporter(http, node).report))
        await until(lambda: len(reads) > 2)
        with machine_api(api_files, port) as back:
            await until(lambda: len(back.received) >= 2)
            loop.cancel()
            await asyncio.wait([loop])

    assert sequences(back)[0] > 2
    assert sequences(back) == sorted(set(sequences(back)))


async def test_an_api_of_another_site_is_told_nothing(node_files: CertificateFiles, tmp_path: Path):
    with machine_api(issue(make_site_ca(tmp_path), "api")) as stranger:
        async with client(stranger.url, node_files) as http:
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await Reporter(http, observer()).report()

    assert stranger.received == []


async def test_a_node_without_a_certificate_of_the_site_is_not_heard(api: MachineApi, ca: SiteCa):
    async with httpx.AsyncClient(base_url=api.url, verify=client_context(ca.path), trust_env=False) as http:
        with pytest.raises((Unavailable, ssl.SSLError)):
            await Reporter(http, observer()).report()

    assert api.received == []


def test_a_driver_that_fails_is_reported_as_no_driver():
    report = observer(GpuInventory(error="Driver/library version mismatch")).observe()

    assert (report.driver, report.gpus) == ("", ())
    assert report.host.cpus > 0


async def until(condition, timeout_s: float = 15.0) -> None:
    for _ in itertools.takewhile(lambda n: n * 0.01 < timeout_s, itertools.count()):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {timeout_s} s")
