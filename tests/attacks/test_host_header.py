"""CVE-2026-48710 "BadHost", LiteLLM CVE-2026-49468, Open WebUI #25123: a Host header that changes what is asked."""

import httpx
import pytest

from tests.attacks.routes import app_of, served_by
from tests.support.control_plane import ControlPlane

HOSTS = [
    b"", b" ", b"api api", b"api/livez", b"api/../livez?", b"api?x=/livez", b"api#/livez", b"api@evil", b"evil@api",
    b"evil.example", b"api.evil.example", b"api:99999999", b"api:80:80", b"api:abc", b"api:", b":80", b"//api",
    b"http://api", b"api\\evil", b"api%2flivez", b"api%00", b"api\x00", b"api,evil", b"api;evil", b"[::1", b"::1]",
    b"[api", b"127.0.0.1/livez", b"-api", b".api", b"api\tx", b"\xe2\x80\xaeapi", b"a" * 300, b"${jndi:ldap://api}",
    b"{{7*7}}", b"api'--",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
async def test_a_host_that_is_none_of_the_sites_names_reaches_no_route(plane: ControlPlane, host: bytes):
    found = set()
    for route in served_by(plane):
        transport = httpx.ASGITransport(app_of(plane, route), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", trust_env=False) as client:
            answer = await client.request(route.method, route.url, headers=[(b"Host", host)])
        found.add((answer.status_code, answer.json()["code"]))
    assert found == {(400, "bad_host")}


async def test_two_host_headers_reach_no_route(plane: ControlPlane):
    async with plane.client() as client:
        answer = await client.get("/whoami", headers=[(b"Host", b"api"), (b"Host", b"api")])
    assert answer.json()["code"] == "bad_host"


@pytest.mark.parametrize("host", [b"api", b"API", b"api:8443", b"api."])
async def test_a_name_of_the_site_is_let_in_in_each_of_its_forms(plane: ControlPlane, host: bytes):
    async with plane.client() as client:
        assert (await client.get("/whoami", headers=[(b"Host", host)])).status_code == 401
