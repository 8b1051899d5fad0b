from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from controlplane.kit.tls import CertificateFiles
from tests.gateway.process import GatewayProcess, ReplicaThread, StandInControlPlane, gateway_process
from tests.gateway.stage import Stage
from tests.runner.conftest import site  # noqa: F401 - a fixture
from tests.support.certificates import SiteCa, issue, make_site_ca


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def gateway_ca(tmp_path_factory: pytest.TempPathFactory) -> SiteCa:
    return make_site_ca(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def gateway_files(gateway_ca: SiteCa) -> CertificateFiles:
    return issue(gateway_ca, "gateway", uri="redoubt://test/zone/z/service/gateway")


@pytest.fixture
async def stage(gateway_files: CertificateFiles) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(gateway_files, stack)


@pytest.fixture
def control_plane() -> Iterator[StandInControlPlane]:
    stand_in = StandInControlPlane()
    yield stand_in
    stand_in.go_away()


@pytest.fixture
def gateway(
    tmp_path: Path, gateway_files: CertificateFiles, control_plane: StandInControlPlane
) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path, gateway_files, control_plane) as process:
        yield process


@pytest.fixture
def replica(gateway_files: CertificateFiles) -> Iterator[ReplicaThread]:
    thread = ReplicaThread(gateway_files.ca)
    yield thread
    thread.stop()
