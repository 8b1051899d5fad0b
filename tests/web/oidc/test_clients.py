"""How clients prove themselves, and every way in which they do not."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit.types import Role
from controlplane.domains.oauth.service import clients
from controlplane.domains.oauth.types import ClientKind
from controlplane.kit.errors import BadInput
from controlplane.kit.jws import encode, public_jwk, sign_jwt
from controlplane.web.peer import Peer
from tests.support.control_plane import ControlPlane, _as_peer, peer_of
from tests.support.oauth import (
    ADMIN,
    ASSERTION_TYPE,
    ISSUER,
    Party,
    events,
    make_keys,
    native_party,
    service_party,
    site,
    unsigned,
    web_party,
)


async def test_a_service_signs_in_by_itself_and_gets_no_refresh_token(plane: ControlPlane) -> None:
    service = await service_party(plane, Role.OPERATOR)

    body = (await service.sign_in(service.assertion())).json()

    assert "refresh_token" not in body
    async with plane.client(body["access_token"]) as client:
        assert (await client.get("/whoami")).json()["role"] == Role.OPERATOR
    assert "service.signed_in" in await events(plane)


async def test_an_assertion_counts_once(plane: ControlPlane) -> None:
    service = await service_party(plane)
    assertion = service.assertion()

    answers = await asyncio.gather(*(service.sign_in(assertion) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 5
    assert {answer.json()["error"] for answer in answers if answer.status_code == 401} == {"invalid_client"}


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://elsewhere:8443"},
        {"aud": [ISSUER, "https://elsewhere:8443"]},
        {"aud": None},
        {"iss": "somebody"},
        {"sub": None},
        {"jti": None},
        {"jti": "short"},
        {"jti": 12345678},
        {"exp": None},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": 1},
        {"exp": 4102444800},
        {"iat": 4102444800},
    ],
)
async def test_an_assertion_with_wrong_claims_is_refused(plane: ControlPlane, changed: dict[str, object]) -> None:
    service = await service_party(plane)

    answer = await service.sign_in(service.assertion(**changed))

    assert answer.status_code in {400, 401}
    assert answer.json()["error"] == "invalid_client"


async def test_a_header_that_brings_its_own_key_is_refused_whole(plane: ControlPlane) -> None:
    """CVE-2026-27962: a key in the header is never read, however well it signs."""
    service, own = await service_party(plane), Ed25519PrivateKey.generate()
    assert service.key is not None
    claims = service.assertion().split(".")[1]
    for extra in (
        {"jwk": public_jwk(own.public_key(), "k1")},
        {"jku": "https://evil.example/keys"},
        {"x5c": ["MII"]},
        {"x5u": "https://evil.example/cert"},
        {"crit": ["exp"]},
    ):
        head = encode(httpx.Response(200, json={"alg": "EdDSA", "kid": "k1", **extra}).content)
        for key in (own, service.key):
            forged = f"{head}.{claims}.{encode(key.sign(f'{head}.{claims}'.encode()))}"
            assert (await service.sign_in(forged)).json()["error"] == "invalid_client", extra


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES256", "", "eddsa", None, ["EdDSA"]])
async def test_a_token_does_not_choose_its_algorithm(plane: ControlPlane, alg: object) -> None:
    service = await service_party(plane)
    now = int(plane.clock.now().timestamp())
    claims = {"iss": service.client.id, "sub": service.client.id, "aud": ISSUER, "exp": now + 60, "jti": "a" * 16}

    answer = await service.sign_in(unsigned({"alg": alg, "kid": "k1"}, claims))

    assert answer.json()["error"] == "invalid_client"


async def test_a_public_key_is_no_shared_secret(plane: ControlPlane) -> None:
    """The alg swap: HS256 with the public key's bytes as the secret."""
    import hashlib  # noqa: PLC0415 - only here
    import hmac  # noqa: PLC0415 - only here

    service = await service_party(plane)
    assert service.key is not None
    x = public_jwk(service.key.public_key(), "k1")["x"]
    head = encode(b'{"alg":"HS256","kid":"k1"}')
    claims = service.assertion().split(".")[1]
    tag = hmac.new(x.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()

    assert (await service.sign_in(f"{head}.{claims}.{encode(tag)}")).json()["error"] == "invalid_client"


async def test_a_key_that_is_not_the_services_own_is_refused(plane: ControlPlane) -> None:
    service = await service_party(plane)
    service.key = Ed25519PrivateKey.generate()

    assert (await service.sign_in(service.assertion())).json()["error"] == "invalid_client"


@pytest.mark.parametrize("size", [9_000, 70_000, 10_000_000])
async def test_a_huge_token_is_refused_before_it_is_decoded(plane: ControlPlane, size: int) -> None:
    service = await service_party(plane)

    answer = await service.sign_in("a." * 2 + "A" * size)

    assert answer.status_code in {400, 401, 413}
    assert "error" in answer.json() or answer.status_code == 413


async def test_the_grant_of_a_service_is_not_for_a_client_with_a_secret(plane: ControlPlane) -> None:
    app, tool = await web_party(plane), await native_party(plane)

    for party in (app, tool):
        answer = await party.post("/oauth/token", {"grant_type": "client_credentials", **party.fields})
        assert answer.json()["error"] == "invalid_client"


async def test_a_service_asks_for_no_code_and_no_refresh(plane: ControlPlane) -> None:
    service = await service_party(plane)
    proof = {"client_assertion_type": ASSERTION_TYPE}
    for fields in (
        {"grant_type": "authorization_code", "code": "x"},
        {"grant_type": "refresh_token", "refresh_token": "x"},
    ):
        answer = await service.post("/oauth/token", {**fields, **proof, "client_assertion": service.assertion()})
        assert answer.json()["error"] == "unauthorized_client"


async def test_a_secret_in_the_body_is_refused(plane: ControlPlane) -> None:
    """oidcc-server-client-secret-post (as refused)."""
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code, secret = await app.code(person.access), app.secret
    assert secret is not None
    app.secret = None

    answer = await app.redeem(code, client_secret=secret)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["www-authenticate"].startswith("Basic")


async def test_two_credentials_in_one_request_are_nobodys(plane: ControlPlane) -> None:
    app, service = await web_party(plane), await service_party(plane)
    person = await plane.signed_in(Role.OPERATOR)
    assert app.secret is not None
    code = await app.code(person.access)
    for extra in (
        {"client_secret": app.secret},
        {"client_assertion_type": ASSERTION_TYPE, "client_assertion": service.assertion()},
    ):
        answer = await app.redeem(code, **extra)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_one_client_in_the_header_and_another_in_the_body_is_refused(plane: ControlPlane) -> None:
    app, tool = await web_party(plane), await native_party(plane)
    person = await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)

    answer = await app.redeem(code, client_id=tool.client.id)

    assert answer.status_code in {400, 401}
    assert answer.json()["error"] in {"invalid_request", "invalid_client"}


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_a_request_that_is_no_form_is_refused(plane: ControlPlane, kind: str) -> None:
    async with site(plane) as client:
        answer = await client.post("/oauth/token", content=b"grant_type=refresh_token", headers={"Content-Type": kind})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("again", ["grant_type", "code", "client_id", "code_verifier", "redirect_uri", "state"])
async def test_a_parameter_that_is_there_twice_is_refused(plane: ControlPlane, again: str) -> None:
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)
    body = f"grant_type=authorization_code&code={code}&{again}=x&{again}=x"

    async with site(plane) as client:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await client.post("/oauth/token", content=body, headers=headers, auth=app.auth)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_credentials_in_the_address_are_refused(plane: ControlPlane) -> None:
    service = await service_party(plane)
    answer = await service.post(f"/oauth/token?client_assertion={service.assertion()}", {"grant_type": "x"})

    assert answer.json()["error"] == "invalid_request"


async def test_a_disabled_client_and_all_it_was_given_end_at_once(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane, scopes="openid api"), await plane.signed_in(Role.OPERATOR)
    bought = (await app.redeem(await app.code(person.access, scope="openid api"))).json()

    async with plane.database.transaction() as tx:
        await clients.disable_client(tx, ADMIN(plane), client_id=app.client.id)

    async with plane.client(bought["access_token"]) as client:
        assert (await client.get("/whoami")).status_code == 401
    assert (await app.refresh(bought["refresh_token"])).json()["error"] == "invalid_client"


async def test_after_a_rotation_the_new_key_counts_and_the_one_before_the_old_one_does_not(plane: ControlPlane) -> None:
    service, first = await service_party(plane), None
    for name in ("k2", "k3"):
        key = Ed25519PrivateKey.generate()
        first, service.key = first or service.key, key
        async with plane.database.transaction() as tx:
            jwk = public_jwk(key.public_key(), name)
            await clients.rotate_client(tx, ADMIN(plane), client_id=service.client.id, public_key=jwk)
    assert service.key is not None
    assert first is not None
    claims = {
        "iss": service.client.id, "sub": service.client.id, "aud": ISSUER,
        "exp": int(plane.clock.now().timestamp()) + 60, "jti": "first-new",
    }  # fmt: skip
    assert (await service.sign_in(sign_jwt(service.key, "k3", claims))).status_code == 200
    assert (await service.sign_in(sign_jwt(first, "k1", {**claims, "jti": "first-old"}))).status_code == 401


async def test_a_certificate_of_the_site_proves_the_service_that_it_names(plane: ControlPlane) -> None:
    service = await service_party(plane)
    peer = peer_of(plane, "service", "backup")
    async with plane.database.transaction() as tx:
        ask = clients.ClientAsk(
            "by-certificate",
            ClientKind.SERVICE,
            frozenset({"api"}),
            service.client.principal_id,
            certificate_uri=peer.uri,
        )
        made = await clients.create_client(tx, ADMIN(plane), ask=ask)

    async def sign_in(shown: Peer, **fields: str) -> httpx.Response:
        transport = httpx.ASGITransport(_as_peer(plane.machine_app, shown))
        async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as client:
            return await client.post("/oauth/token", data={"grant_type": "client_credentials", **fields})

    assert (await sign_in(peer)).status_code == 200
    assert (await sign_in(peer, client_id=made.client.id)).status_code == 200
    assert (await sign_in(peer, client_id="cli_other")).json()["error"] == "invalid_client"
    south = replace(peer, zone="south")
    over = peer_of(plane, "service", "backup")
    over = replace(over, leaf=replace(over.leaf, not_after=plane.clock.now() - timedelta(days=60)))
    for other in (south, over, peer_of(plane, "service", "backup", "elsewhere")):
        assert (await sign_in(other)).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    "ask",
    [
        clients.ClientAsk("a", ClientKind.WEB),
        clients.ClientAsk("a", ClientKind.WEB, redirect_uris=("http://app.example/cb",)),
        clients.ClientAsk("a", ClientKind.WEB, redirect_uris=("https://*.example/cb",)),
        clients.ClientAsk("a", ClientKind.WEB, redirect_uris=("https://app.example/cb#x",)),
        clients.ClientAsk("a", ClientKind.WEB, redirect_uris=("https://app@evil.example/cb",)),
        clients.ClientAsk("a", ClientKind.WEB, redirect_uris=("javascript:alert(1)",)),
        clients.ClientAsk("a", ClientKind.NATIVE, redirect_uris=("http://localhost/cb",)),
        clients.ClientAsk("a", ClientKind.NATIVE, frozenset({"introspect"}), redirect_uris=("http://127.0.0.1/cb",)),
        clients.ClientAsk("a", ClientKind.WEB, frozenset({"root"}), redirect_uris=("https://app.example/cb",)),
        clients.ClientAsk("a", ClientKind.SERVICE, principal_id="svc_1"),
        clients.ClientAsk("a", ClientKind.SERVICE, principal_id="svc_1", public_key={"kty": "RSA", "n": "x"}),
        clients.ClientAsk(
            "a", ClientKind.SERVICE, principal_id="svc_1", public_key={"kty": "OKP", "crv": "Ed25519", "x": "A"}
        ),
    ],
)
async def test_a_client_that_must_not_be_is_not_made(plane: ControlPlane, ask: clients.ClientAsk) -> None:
    with pytest.raises(BadInput):
        async with plane.database.transaction() as tx:
            await clients.create_client(tx, ADMIN(plane), ask=ask)


async def test_introspection_tells_a_client_of_its_own_tokens_and_of_no_others(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR, name="olga")
    bought = (await app.redeem(await app.code(person.access))).json()

    own = (await app.post("/oauth/introspect", {"token": bought["access_token"]})).json()
    foreign = (await app.post("/oauth/introspect", {"token": person.access})).json()
    unknown = (await app.post("/oauth/introspect", {"token": "rdt_x"})).json()

    assert (own["active"], own["username"], own["scope"], own["client_id"]) == (
        True,
        "olga",
        "openid profile",
        app.client.id,
    )
    assert foreign == unknown == {"active": False}


async def test_a_service_that_may_ask_is_told_of_every_token_and_a_public_client_of_none(plane: ControlPlane) -> None:
    service = await service_party(plane, scopes="api introspect")
    tool, person = await native_party(plane), await plane.signed_in(Role.OPERATOR)

    async def ask(party: Party, **proof: str) -> dict[str, object]:
        return (await party.post("/oauth/introspect", {"token": person.access, **proof})).json()

    proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": service.assertion()}
    assert (await ask(service, **proof))["active"] is True
    assert (await ask(tool, client_id=tool.client.id))["error"] == "invalid_client"


async def test_a_revoked_token_ends_its_whole_session_and_another_clients_stays(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, tool = await web_party(plane), await native_party(plane)
    person = await plane.signed_in(Role.OPERATOR)
    bought = (await app.redeem(await app.code(person.access))).json()

    foreign = await tool.post("/oauth/revoke", {"token": bought["refresh_token"], **tool.fields})
    assert foreign.status_code == 200
    assert (await app.post("/oauth/introspect", {"token": bought["access_token"]})).json()["active"] is True
    assert (await app.post("/oauth/revoke", {"token": bought["refresh_token"]})).status_code == 200

    assert (await app.post("/oauth/introspect", {"token": bought["access_token"]})).json() == {"active": False}
    assert "token.revoked" in await events(plane)


@pytest.mark.parametrize("header", ["Basic /w==", "Basic", "Basic :", "Basic !!!", "Bearer x", "Negotiate x", "\xff"])
async def test_a_header_that_is_no_proof_of_a_client_is_refused_and_breaks_nothing(
    plane: ControlPlane, header: str
) -> None:
    async with site(plane) as client:
        headers = [(b"Authorization", header.encode("latin-1"))]
        answer = await client.post(
            "/oauth/token", data={"grant_type": "refresh_token", "refresh_token": "x"}, headers=headers
        )

    assert answer.status_code in {400, 401}
    assert answer.json()["error"] in {"invalid_client", "invalid_request"}
