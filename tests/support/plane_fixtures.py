"""Fixtures of everything that needs a database; loaded by tests/conftest.py."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.control_plane import ControlPlane, make_control_plane
from tests.support.database import empty, migrate, running_server


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give one migrated database to all tests of this worker, as the service sees it."""
    directory: Path = tmp_path_factory.mktemp("postgres") / "data"
    with running_server(directory) as url:
        yield migrate(url)


@pytest.fixture
async def plane(database_url: str) -> AsyncIterator[ControlPlane]:
    """Give a control plane whose first start is over, and that is empty otherwise."""
    await empty(database_url)
    made = make_control_plane(database_url)
    await made.seal()
    yield made
    await made.database.close()
    await made.means.aside.close()


@pytest.fixture
async def new_plane(database_url: str) -> AsyncIterator[ControlPlane]:
    """Give a control plane at which nobody is enrolled."""
    await empty(database_url)
    made = make_control_plane(database_url)
    yield made
    await made.database.close()
    await made.means.aside.close()


@pytest.fixture
async def admin(plane: ControlPlane) -> str:
    """Give an administrator's key."""
    return await plane.administrator()
