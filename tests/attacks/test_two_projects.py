"""Broken object level authorisation (RAGFlow, Dify, LAYRA): every id of one project with every token of another."""

import re

import pytest

from controlplane.domains.audit.types import Role
from tests.attacks.routes import Served, served_by
from tests.support.control_plane import ControlPlane

PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
SENT_AWAY = {401, 403, 404, 405}


async def ids_of_blue(plane: ControlPlane, blue: str) -> dict[str, str]:
    """Make what a tenant can own, and return the value for each parameter of a path."""
    async with plane.client(blue) as client:
        made = await client.post("/keys", json={"name": "app", "project": "blue"})
        assert made.status_code == 201, made.text
        key = made.json()["key"]
        whoami = (await client.get("/whoami")).json()
    return {
        "key_id": key["id"],
        "secret_id": key["secrets"][0]["id"],
        "name": "blue-admin",
        "principal_id": whoami["id"],
        "role": "operator",
        "version": "1",
        "index": "0",
    }


def with_ids(route: Served, ids: dict[str, str]) -> str:
    return PARAMETER.sub(lambda match: ids.get(match[1], ids["key_id"]), route.path)


@pytest.mark.parametrize("role", [Role.TENANT_ADMIN, Role.TENANT_USER])
async def test_no_token_of_one_project_reaches_anything_of_another(plane: ControlPlane, role: Role):
    blue = await plane.person(Role.TENANT_ADMIN, name="blue-admin", project="blue")
    red = await plane.person(role, name="red-one", project="red")
    ids = await ids_of_blue(plane, blue)
    routes = [r for r in served_by(plane) if r.app == "admin" and "{" in r.path and r.path.startswith("/api/v1/")]
    reached = []
    for route in routes:
        async with plane.client(red) as client:
            body = b"{}" if route.method not in {"GET", "DELETE"} else None
            answer = await client.request(route.method, f"http://api{with_ids(route, ids)}", content=body)
        if answer.status_code not in SENT_AWAY and not (body is not None and answer.status_code == 422):
            reached.append((route.method, route.path, answer.status_code))
    async with plane.client(blue) as client:
        kept = (await client.get(f"/keys/{ids['key_id']}")).json()

    assert len(routes) > 10
    assert reached == []
    assert kept["revoked_at"] is None


async def test_a_list_shows_nothing_of_another_project(plane: ControlPlane):
    blue = await plane.person(Role.TENANT_ADMIN, name="blue-admin", project="blue")
    red = await plane.person(Role.TENANT_ADMIN, name="red-one", project="red")
    ids = await ids_of_blue(plane, blue)
    leaked = []
    for route in served_by(plane):
        if (
            (route.app, route.method) == ("admin", "GET")
            and "{" not in route.path
            and route.path.startswith("/api/v1/")
        ):
            async with plane.client(red) as client:
                answer = await client.get(f"http://api{route.path}")
            if any(ids[kind] in answer.text for kind in ("key_id", "secret_id", "principal_id")):
                leaked.append(route.path)
    assert leaked == []


async def test_a_key_of_another_project_is_not_made(plane: ControlPlane):
    red = await plane.person(Role.TENANT_ADMIN, name="red-one", project="red")
    async with plane.client(red) as client:
        answer = await client.post("/keys", json={"name": "app", "project": "blue"})
    assert answer.status_code in SENT_AWAY
