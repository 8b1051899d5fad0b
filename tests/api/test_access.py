import contextlib

import httpx
import pytest

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER
from controlplane.kit.errors import Conflict
from controlplane.kit.paging import Page
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
    ("POST", "/step-ups"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions/current"),
    ("DELETE", "/sessions/x"),
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/x"),
    ("DELETE", "/users/x"),
    ("POST", "/users/x/enrolments"),
    ("GET", "/users/x/roles"),
    ("POST", "/users/x/roles"),
    ("DELETE", "/users/x/roles/operator"),
    ("GET", "/break-glass"),
    ("POST", "/break-glass/shares"),
    ("GET", "/witnesses"),
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/keys/x"),
    ("DELETE", "/keys/x"),
    ("POST", "/keys/x/secrets"),
    ("DELETE", "/keys/x/secrets/y"),
    ("GET", "/verbs"),
    ("GET", "/policy-sets"),
    ("POST", "/policy-sets"),
    ("POST", "/policy-checks"),
    ("GET", "/policy-sets/current"),
    ("GET", "/policy-sets/0"),
    ("POST", "/policy-sets/0/replays"),
    ("POST", "/policy-sets/0/proposals"),
    ("POST", "/policy-sets/0/publications"),
    ("GET", "/policy-publications"),
    ("POST", "/access-check"),
    ("GET", "/approvals"),
    ("POST", "/approvals"),
    ("GET", "/approvals/x"),
    ("POST", "/approvals/x/approve"),
    ("POST", "/approvals/x/refuse"),
    ("GET", "/audit-events"),
    ("GET", "/audit/events/x"),
    ("GET", "/audit/events/x/proof"),
    ("GET", "/audit/entries"),
    ("GET", "/audit/checkpoint"),
    ("GET", "/audit/checkpoints"),
    ("GET", "/audit/consistency"),
    ("GET", "/audit/witnesses"),
    ("GET", "/audit/holds"),
    ("POST", "/audit/holds"),
    ("POST", "/audit/holds/x/release"),
    ("POST", "/audit/purges"),
    ("POST", "/audit/erasures"),
    ("GET", "/incidents"),
    ("GET", "/incidents/x"),
    ("POST", "/nodes/x/join-tokens"),
    ("POST", "/nodes/x/revocations"),
    ("GET", "/node-revocations"),
    ("GET", "/node-certificates"),
    ("GET", "/node-joins"),
    ("POST", "/node-joins/x/approval"),
    ("DELETE", "/node-joins/x"),
    ("GET", "/access-report"),
    ("POST", "/access-report-exports"),
    ("GET", "/clients"),
    ("POST", "/clients"),
    ("GET", "/clients/x"),
    ("DELETE", "/clients/x"),
    ("POST", "/clients/x/rotations"),
    ("POST", "/services"),
    ("POST", "/device-requests"),
    ("POST", "/device-decisions"),
    ("POST", "/signing-keys/rotations"),
    ("GET", "/gpus/x"),
    ("PUT", "/gpus/x/cordon"),
    ("DELETE", "/gpus/x/cordon"),
    ("GET", "/scheduler"),
    ("POST", "/scheduler/applies"),
    ("GET", "/scheduler/applies/x"),
    ("GET", "/usage"),
    ("GET", "/usage/requests"),
    ("POST", "/jobs"),
    ("GET", "/jobs"),
    ("POST", "/job-plans"),
    ("GET", "/jobs/x"),
    ("DELETE", "/jobs/x"),
    ("GET", "/jobs/x/explanation"),
    ("DELETE", "/jobs/x/elements/x"),
    ("GET", "/jobs/x/log"),
    ("POST", "/shares"),
    ("GET", "/shares"),
    ("GET", "/shares/x"),
    ("PATCH", "/shares/x"),
    ("DELETE", "/shares/x"),
    ("PUT", "/shares/x/quotas/x"),
    ("GET", "/quotas"),
    ("POST", "/budgets"),
    ("GET", "/budgets"),
    ("GET", "/budgets/x"),
    ("PATCH", "/budgets/x"),
    ("DELETE", "/budgets/x"),
    ("GET", "/pools"),
    ("PATCH", "/pools/x"),
    ("POST", "/reservations"),
    ("GET", "/reservations"),
    ("DELETE", "/reservations/x"),
    ("GET", "/leases/x"),
    ("GET", "/allocation/explanation"),
]
OPEN = {
    "/livez",
    "/readyz",
    "/api/v1/enrolments",
    "/api/v1/enrolments/confirmations",
    "/api/v1/sign-ins",
    "/api/v1/sign-ins/refresh",
    "/api/v1/break-glass/openings",
    "/api/v1/node-joins",
    "/api/v1/runs",
    "/api/v1/runs/{replica_id}/lease",
    "/api/v1/job-runs",
    "/api/v1/job-runs/{run_id}/lease",
    "/api/v1/job-runs/{run_id}/output",
    "/openapi.json",
}
# The protocol's own: each but the last three wants a client's or a token's proof, see tests/web/oidc.
OPEN |= {f"/oauth/{name}" for name in ("token", "device_authorization", "introspect", "revoke", "userinfo", "jwks")} | {
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", [None, "rdt_wrong", "rdk_wrong"])
async def test_without_a_live_access_token_no_route_answers(
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


async def test_an_inference_key_does_not_open_the_admin_api(plane: ControlPlane, admin: str) -> None:
    async with plane.client(admin) as client:
        key = (await client.post("/keys", json={"name": "app"})).json()["secret"]
    async with plane.client(key) as client:
        assert (await client.get("/whoami")).status_code == 401


async def test_a_denial_is_on_record_though_its_request_was_rolled_back(plane: ControlPlane, admin: str) -> None:
    async with plane.client("rdt_wrong") as client:
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


async def test_a_refusal_that_keeps_its_changes_is_committed_and_any_other_is_not(plane: ControlPlane) -> None:
    for keeps in (True, False):
        with contextlib.suppress(Conflict):
            async with plane.database.transaction() as tx:
                await audit.record(tx, NEWCOMER, f"kept.{keeps}".lower(), "x")
                raise Conflict("no", remedy="none", keeps_changes=keeps)
    async with plane.database.transaction() as tx:
        events = await audit.list_events(tx, Page(50, None))
    assert [event.event for event in events] == ["kept.true"]
