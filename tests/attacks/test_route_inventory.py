"""LiteLLM CVE-2026-12795, Ray's open job API: a route that forgot to ask who is there."""

from fnmatch import fnmatchcase as fnmatch

import httpx
from fastapi import FastAPI

from tests.attacks.routes import Served, app_of, served_by
from tests.support.control_plane import ControlPlane

# What may be asked by nobody in particular: five lines, each with how it knows its caller or why it need not.
OPEN = {
    "says only whether the process works": ("GET /livez", "GET /readyz"),
    "how somebody becomes known: a single-use code or token, or the factors of an account": (
        "POST /api/v1/enrolments",
        "POST /api/v1/enrolments/confirmations",
        "POST /api/v1/break-glass/openings",
        "POST /api/v1/sign-ins",
        "POST /api/v1/sign-ins/refresh",
        "POST /api/v1/node-joins",
        "GET /sign-in",
        "GET /enrol",
    ),
    "a run: its own nonce or token": (
        "POST /api/v1/runs",
        "POST /api/v1/runs/{replica_id}/lease",
        "POST /api/v1/job-runs",
        "POST /api/v1/job-runs/{run_id}/*",
    ),
    "public facts that a client needs before it can sign in": (
        "GET /.well-known/*",
        "GET /oauth/jwks",
        "GET /static/*",
    ),
    "OAuth: the protocol authenticates client and person itself": ("POST /oauth/*", "GET /oauth/*"),
}
SENT_AWAY = {401, 403, 303}


def test_the_list_of_open_routes_has_five_lines():
    assert len(OPEN) <= 5


async def test_every_route_that_is_not_on_the_list_turns_a_stranger_away(plane: ControlPlane):
    closed = [route for route in served_by(plane) if not is_open(route.method, route.path)]

    answers = [(route.app, route.method, route.path, await _status(plane, route)) for route in closed]

    assert len(closed) > 10
    assert [answer for answer in answers if answer[3] not in SENT_AWAY] == []


async def test_a_route_that_forgot_to_ask_is_found(plane: ControlPlane):
    app: FastAPI = plane.admin_app
    app.add_api_route("/api/v1/forgotten", lambda: {"all": "secrets"}, methods=["POST"])

    found = [route for route in served_by(plane) if route.path == "/api/v1/forgotten"]

    assert [await _status(plane, route) for route in found] == [200]
    assert not is_open("POST", "/api/v1/forgotten")


def test_the_walk_finds_every_route_that_either_application_describes(plane: ControlPlane):
    walked = {(route.app, route.path) for route in served_by(plane)}
    described = {("admin", path) for path in plane.admin_app.openapi()["paths"]}
    described |= {("machine", path) for path in plane.machine_app.openapi()["paths"]}

    assert described <= walked


def is_open(method: str, path: str) -> bool:
    return any(fnmatch(f"{method} {path}", pattern) for group in OPEN.values() for pattern in group)


async def _status(plane: ControlPlane, route: Served) -> int:
    transport = httpx.ASGITransport(app_of(plane, route), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", trust_env=False) as client:
        content = b"{}" if route.method not in {"GET", "DELETE"} else None
        return (await client.request(route.method, route.url, content=content)).status_code
