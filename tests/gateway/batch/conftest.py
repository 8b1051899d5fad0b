from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gateway.batch.office import Office, OpenOffice, open_office


@pytest.fixture
async def opens(stage, tmp_path) -> AsyncIterator[OpenOffice]:
    """Opens offices of one folder, and ends them with the test."""
    opened: list[Office] = []

    async def open_one(*replicas: Any, **limits: Any) -> Office:
        opened.append(await open_office(stage, tmp_path / "archive", *replicas, **limits))
        return opened[-1]

    yield open_one
    for office in opened:
        await office.leader.close()
