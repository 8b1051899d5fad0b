import asyncio

import httpx
import pytest

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.identity import service as identity
from controlplane.kit.errors import Conflict
from tests.support.control_plane import ControlPlane

ROUTES = [
    ("GET", "/whoami"),
    ("GET", "/nodes"),
    ("PUT", "/nodes"),
    ("GET", "/nodes/x"),
    ("GET", "/gpus"),
    ("GET", "/leases"),
    ("GET", "/models"),
    ("POST", "/models"),
    ("GET", "/endpoints"),
    ("POST", "/endpoints"),
    ("GET", "/endpoints/x"),
    ("PATCH", "/endpoints/x"),
    ("DELETE", "/endpoints/x"),
    ("GET", "/api-keys"),
    ("POST", "/api-keys"),
    ("DELETE", "/api-keys/x"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/keys/x"),
    ("DELETE", "/keys/x"),
    ("POST", "/keys/x/secrets"),
    ("DELETE", "/keys/x/secrets/y"),
    ("GET", "/audit-events"),
    ("GET", "/incidents"),
    ("GET", "/incidents/x"),
]
OPEN = {"/livez", "/readyz", "/api/v1/enrolments", "/api/v1/runs", "/api/v1/runs/{replica_id}/lease", "/openapi.json"}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", [None, "rda_wrong", "rdk_wrong"])
async def test_without_a_live_admin_key_no_route_answers(
    plane: ControlPlane, method: str, path: str, key: str | None
) -> None:
    async with plane.client(key) as client:
        answer = await client.request(method, path, json={} if method != "GET" else None)
    assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


def test_the_table_of_routes_above_is_complete(plane: ControlPlane) -> None:
    known = {path.split("/")[1] for _, path in ROUTES}
    served = {
        path.removeprefix("/api/v1/").split("/")[0] for path in plane.admin_app.openapi()["paths"] if path not in OPEN
    }
    assert served == known


async def test_an_enrolment_code_makes_one_administrator_and_never_a_second(plane: ControlPlane) -> None:
    async with plane.database.transaction() as tx:
        code = await identity.create_enrolment_code(tx, SYSTEM)
    async with plane.client() as client:
        asks = [client.post("/enrolments", json={"code": code, "name": f"racer-{i}"}) for i in range(6)]
        answers = await asyncio.gather(*asks)
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401, 401, 401]


async def test_no_second_code_is_made_once_there_is_an_administrator(plane: ControlPlane, admin: str) -> None:
    assert admin.startswith("rda_")
    with pytest.raises(Conflict):
        async with plane.database.transaction() as tx:
            await identity.create_enrolment_code(tx, SYSTEM)


async def test_a_code_that_was_replaced_no_longer_counts(plane: ControlPlane) -> None:
    async with plane.database.transaction() as tx:
        old = await identity.create_enrolment_code(tx, SYSTEM)
    async with plane.database.transaction() as tx:
        await identity.create_enrolment_code(tx, SYSTEM)
    async with plane.client() as client:
        assert (await client.post("/enrolments", json={"code": old, "name": "eve"})).status_code == 401


async def test_a_code_ends_after_an_hour(plane: ControlPlane) -> None:
    async with plane.database.transaction() as tx:
        code = await identity.create_enrolment_code(tx, SYSTEM)
    plane.clock.move(3601)
    async with plane.client() as client:
        assert (await client.post("/enrolments", json={"code": code, "name": "late"})).status_code == 401


async def test_a_revoked_key_no_longer_opens_the_door(plane: ControlPlane, admin: str) -> None:
    async with plane.client(admin) as client:
        second = (await client.post("/api-keys", json={"kind": "admin", "name": "second"})).json()
        await client.delete(f"/api-keys/{second['key']['id']}")
    async with plane.client(second["secret"]) as client:
        assert (await client.get("/whoami")).status_code == 401


async def test_an_inference_key_does_not_open_the_admin_api(plane: ControlPlane, admin: str) -> None:
    async with plane.client(admin) as client:
        key = (await client.post("/api-keys", json={"kind": "inference", "name": "app"})).json()["secret"]
    async with plane.client(key) as client:
        assert (await client.get("/whoami")).status_code == 401


async def test_no_secret_is_in_the_database(plane: ControlPlane, admin: str) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - only here

    async with plane.database.transaction() as tx:
        kept = (await tx.session.execute(text("select api_keys::text from api_keys"))).scalars().all()
    assert kept
    assert not any(admin[4:] in row for row in kept)


async def test_a_denial_is_on_record_though_its_request_was_rolled_back(plane: ControlPlane, admin: str) -> None:
    async with plane.client("rda_wrong") as client:
        await client.get("/endpoints")
    async with plane.client(admin) as client:
        events = (await client.get("/audit-events")).json()["items"]
    assert [e["resource"] for e in events if e["event"] == "request.denied"] == ["/api/v1/endpoints"]


async def test_only_a_certificate_of_this_site_reports_for_a_node(plane: ControlPlane) -> None:
    async with plane.machine("node", "gpu1", site="elsewhere") as client:
        assert (await client.get("/gateway/snapshot")).status_code == 401


async def test_a_node_may_not_read_the_gateways_snapshot(plane: ControlPlane) -> None:
    async with plane.machine("node", "gpu1") as client:
        assert (await client.get("/gateway/snapshot")).status_code == 403
