from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import uvloop

from controlplane.kit.tls import CertificateFiles
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
