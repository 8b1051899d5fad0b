"""The token endpoint and authorization codes, once each."""

import asyncio

import pytest

from controlplane.domains.audit.types import Role
from controlplane.kit.jws import key_of_jwk, read_jwt
from tests.support.control_plane import ControlPlane
from tests.support.oauth import ISSUER, events, make_keys, native_party, site, web_party


async def whoami(plane: ControlPlane, access: str) -> int:
    async with plane.client(access) as client:
        return (await client.get("/whoami")).status_code


async def test_a_code_buys_tokens_and_a_signed_word_about_who_it_was(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR, name="olga")

    answer = await app.redeem(await app.code(person.access, nonce="n-1"))

    body = answer.json()
    assert answer.status_code == 200, body
    assert answer.headers["cache-control"] == "no-store"
    assert (body["token_type"], body["scope"]) == ("Bearer", "openid profile")
    async with site(plane) as client:
        published = (await client.get("/oauth/jwks")).json()["keys"]
        told = (await client.get("/oauth/userinfo", headers={"Authorization": f"Bearer {body['access_token']}"})).json()
    claims = read_jwt(body["id_token"], {jwk["kid"]: key_of_jwk(jwk) for jwk in published})
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (ISSUER, app.client.id, "n-1")
    assert claims["acr"] == "urn:redoubt:acr:two-factors"
    assert claims["amr"] == ["otp", "pwd"]
    assert told == {"sub": claims["sub"], "name": "olga", "preferred_username": "olga"}


async def test_what_a_client_was_given_to_know_who_it_is_does_not_open_the_admin_api(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane), await plane.signed_in(Role.PLATFORM_ADMIN)
    body = (await app.redeem(await app.code(person.access))).json()

    assert await whoami(plane, body["access_token"]) == 401
    assert await whoami(plane, person.access) == 200


async def test_a_code_that_is_shown_again_ends_what_the_first_one_bought(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane, scopes="openid api"), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access, scope="openid api")
    bought = (await app.redeem(code)).json()
    assert await whoami(plane, bought["access_token"]) == 200

    again = await app.redeem(code)

    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert await whoami(plane, bought["access_token"]) == 401
    assert (await app.refresh(bought["refresh_token"])).json()["error"] == "invalid_grant"
    assert "authorization.reuse_detected" in await events(plane)


async def test_of_six_who_show_one_code_at_once_one_is_served(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)

    answers = await asyncio.gather(*(app.redeem(code) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 5
    assert (await events(plane)).count("session.started") == 2  # the person's own, and the one that was bought


async def test_a_code_ends_after_a_minute(plane: ControlPlane) -> None:
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)
    plane.clock.move(61)

    assert (await app.redeem(code)).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": ""}, "invalid_request"),
        ({"redirect_uri": "https://app.example/cb2"}, "invalid_grant"),
        ({"redirect_uri": ""}, "invalid_grant"),
        ({"code": "rdo_unknown"}, "invalid_grant"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, "unsupported_grant_type"),
    ],
)
async def test_a_code_with_something_else_than_it_was_made_for_buys_nothing(
    plane: ControlPlane, changed: dict[str, str], error: str
) -> None:
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)

    answer = await app.redeem(code, **changed)

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert "oauth.refused" in await events(plane)


async def test_a_code_of_one_client_buys_nothing_for_another(plane: ControlPlane) -> None:
    app, tool = await web_party(plane), await native_party(plane)
    person = await plane.signed_in(Role.OPERATOR)
    tool.verifier = app.verifier
    code = await app.code(person.access)

    answer = await tool.redeem(code, redirect_uri="https://app.example/cb", code_verifier=app.verifier)

    assert answer.json()["error"] == "invalid_grant"


async def test_a_public_client_needs_the_verifier_and_nothing_else(plane: ControlPlane) -> None:
    await make_keys(plane)
    tool, person = await native_party(plane), await plane.signed_in(Role.OPERATOR)

    assert (await tool.redeem(await tool.code(person.access))).status_code == 200


async def test_a_refresh_token_turns_and_its_second_use_ends_the_family(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane, scopes="openid api"), await plane.signed_in(Role.OPERATOR)
    first = (await app.redeem(await app.code(person.access, scope="openid api"))).json()
    second = (await app.refresh(first["refresh_token"])).json()
    assert second["scope"] == "api openid"
    assert await whoami(plane, second["access_token"]) == 200

    assert (await app.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"

    assert await whoami(plane, second["access_token"]) == 401
    assert "session.reuse_detected" in await events(plane)


async def test_of_six_who_refresh_at_once_one_wins_and_none_keeps_the_session(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, person = await web_party(plane, scopes="openid api"), await plane.signed_in(Role.OPERATOR)
    first = (await app.redeem(await app.code(person.access, scope="openid api"))).json()

    answers = await asyncio.gather(*(app.refresh(first["refresh_token"]) for _ in range(6)))

    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert await whoami(plane, won[0]["access_token"]) == 401


async def test_another_client_cannot_refresh_and_does_not_use_the_token_up(plane: ControlPlane) -> None:
    await make_keys(plane)
    app, tool = await web_party(plane), await native_party(plane)
    person = await plane.signed_in(Role.OPERATOR)
    first = (await app.redeem(await app.code(person.access))).json()

    assert (await tool.refresh(first["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await app.refresh(first["refresh_token"])).status_code == 200


async def test_without_its_signing_key_the_site_signs_nobody_in(plane: ControlPlane) -> None:
    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)

    answer = await app.redeem(code)

    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    await make_keys(plane)
    assert (await app.redeem(code)).status_code == 200  # nothing of the refused request was kept


async def test_no_secret_of_the_protocol_is_in_the_database(plane: ControlPlane) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - only here

    app, person = await web_party(plane), await plane.signed_in(Role.OPERATOR)
    code = await app.code(person.access)
    async with plane.database.transaction() as tx:
        query = "select oauth_clients::text || authorization_codes::text from oauth_clients, authorization_codes"
        kept = "".join((await tx.session.scalars(text(query))).all())
    assert kept
    assert app.secret is not None
    assert code[4:] not in kept
    assert app.secret[4:] not in kept
