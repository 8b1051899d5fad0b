"""A client, a person and a browser between them."""

from collections.abc import AsyncIterator

import pytest

from controlplane.domains.audit.types import Role
from tests.support.control_plane import ControlPlane
from tests.support.oauth import Party, make_keys, web_party
from tests.support.visitor import Visitor, visitor


@pytest.fixture
async def app(plane: ControlPlane) -> Party:
    await make_keys(plane)
    return await web_party(plane, scopes="openid profile api")


@pytest.fixture
async def person(plane: ControlPlane) -> str:
    return await plane.person(Role.OPERATOR, name="olga")


@pytest.fixture
async def browser(plane: ControlPlane) -> AsyncIterator[Visitor]:
    async with visitor(plane) as made:
        yield made
