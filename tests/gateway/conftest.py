from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from controlplane.kit.tls import CertificateFiles
from tests.gateway.stage import Stage
from tests.runner.conftest import site  # noqa: F401 - a fixture
from tests.support.certificates import issue, make_site_ca


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def gateway_files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return issue(make_site_ca(tmp_path_factory.mktemp("tls")), "gateway", uri="redoubt://test/zone/z/service/gateway")


@pytest.fixture
async def stage(tmp_path: Path, gateway_files: CertificateFiles) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(tmp_path, gateway_files, stack)
