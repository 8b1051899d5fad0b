"""Requests that are too much, too slow, or say a thing twice; all are refused before anybody is asked who sent them."""

import asyncio
import json

import httpx
import pytest

from controlplane.web.limits import Guard, Limits
from tests.support.control_plane import ControlPlane

SMALL = Limits(body_bytes=1000, body_s=0.05)


async def test_a_body_that_says_it_is_too_large_is_not_read(plane: ControlPlane):
    async with plane.client() as client:
        answer = await client.post("/enrolments", content=b"x", headers={"Content-Length": str(2**40)})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_chunked_body_without_a_length_is_counted_while_it_streams(plane: ControlPlane):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 64 << 10
            yield b" " * (64 << 10)

    async with plane.client() as client:
        answer = await client.post("/enrolments", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent < 2 << 20


async def test_a_body_that_drips_ends_with_its_time(plane: ControlPlane):
    async def drip():
        yield b"{"
        await asyncio.Event().wait()
        yield b"}"

    guard = Guard(plane.admin_app, frozenset({"api"}), SMALL)
    async with httpx.AsyncClient(transport=_Streaming(guard), base_url="http://api", trust_env=False) as client:
        answer = await client.post("/api/v1/enrolments", content=drip())
    assert (answer.status_code, answer.json()["code"]) == (408, "body_too_slow")


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/whoami?" + "a" * 5000, {}, "query_too_long"),
        ("/nodes/" + "a" * 2000, {}, "path_too_long"),
        ("/whoami", {f"x-{i}": "1" for i in range(80)}, "head_too_large"),
        ("/whoami", {"Authorization": "Bearer " + "a" * (64 << 10)}, "head_too_large"),
        ("/nodes/%00", {}, "bad_path"),
        ("/nodes/a%5cb", {}, "bad_path"),
        ("/nodes/%0d%0aSet-Cookie:x", {}, "bad_path"),
        ("/nodes/..%2f..%2fwhoami", {}, "bad_path"),
    ],
)
async def test_a_head_that_is_too_much_or_unclean_is_refused(plane: ControlPlane, path: str, headers, code: str):
    async with plane.client() as client:
        answer = await client.get(path, headers=headers)
    assert answer.json()["code"] == code
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "CONNECT", "PROPFIND", "X"])
async def test_methods_that_no_route_has_are_not_served(plane: ControlPlane, method: str):
    async with plane.client() as client:
        answer = await client.request(method, "/whoami")
    assert answer.status_code == 405


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
async def test_no_header_turns_one_method_into_another(plane: ControlPlane, admin: str, header: str):
    async with plane.client(admin) as client:
        key = (await client.post("/keys", json={"name": "app"})).json()["key"]
        answer = await client.get(f"/keys?{header}=DELETE", headers={header: "DELETE"})
        kept = (await client.get("/keys")).json()["items"]
    assert answer.status_code == 200
    assert [k["revoked_at"] for k in kept if k["id"] == key["id"]] == [None]


@pytest.mark.parametrize(
    "second",
    [
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "x"),
        ("Api-Key", "x"),
        ("Proxy-Authorization", "Basic x"),
        ("Cookie", "a=b; __Host-redoubt=x"),
    ],
)
async def test_two_credentials_are_none(plane: ControlPlane, admin: str, second: tuple[str, str]):
    async with plane.client() as client:
        sent = [("Authorization", f"Bearer {admin}"), second]
        answer = await client.get("/whoami", headers=sent)
    assert (answer.status_code, answer.json()["code"]) == (400, "several_credentials")


@pytest.mark.parametrize("name", ["Content-Length", "Idempotency-Key", "Content-Type"])
async def test_a_header_that_may_come_once_is_refused_twice(plane: ControlPlane, name: str):
    async with plane.client() as client:
        answer = await client.post("/enrolments", headers=[(name, "0"), (name, "0")])
    assert answer.json()["code"] == "header_twice"


async def test_an_answer_has_a_request_id_and_headers_that_a_browser_obeys(plane: ControlPlane):
    async with plane.client() as client:
        answer = await client.get("/whoami")
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_client_cannot_choose_the_request_id(plane: ControlPlane):
    async with plane.client() as client:
        answer = await client.get("/whoami", headers={"X-Request-Id": "req_forged"})
    assert answer.headers["x-request-id"] != "req_forged"


async def test_no_page_describes_the_api_on_a_site(plane: ControlPlane):
    for path in ("/openapi.json", "/docs", "/redoc"):
        async with plane.client() as client:
            answer = await client.get(f"http://api{path}")
        assert answer.status_code == 404


async def test_what_the_database_cannot_hold_is_bad_input_and_no_fault(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        nul = await client.post("/keys", json={"name": "a\0b"})
        huge = await client.get("/audit-events?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ==")
    assert (nul.status_code, huge.status_code) == (422, 422)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"code": "\\ud800"}', b"1e999999", b""]
)
async def test_a_body_that_breaks_parsers_is_bad_input(plane: ControlPlane, body: bytes):
    async with plane.client() as client:
        answer = await client.post("/enrolments", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    json.loads(answer.content)


class _Streaming(httpx.AsyncBaseTransport):
    """Hand an application the chunks as they come: httpx's own ASGI transport waits for ever on a body that stalls."""

    def __init__(self, app) -> None:
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)
