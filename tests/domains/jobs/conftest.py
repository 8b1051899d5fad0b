from collections.abc import AsyncIterator

import pytest

from tests.support.control_plane import ControlPlane
from tests.support.jobs import JobSite


@pytest.fixture
async def site(plane: ControlPlane, admin: str) -> AsyncIterator[JobSite]:
    """Give a site whose engine lets everything wait until the test begins it."""
    plane.engine.queues = True
    async with plane.client(admin) as client:
        made = JobSite(plane, client)
        await made.prepare()
        yield made
