"""What the authorization endpoint refuses, and whom it tells: the client only where its address is known."""

from urllib.parse import urlencode

import pytest

from tests.support.control_plane import ControlPlane
from tests.support.oauth import CALLBACK, ISSUER, Party, site
from tests.support.visitor import Visitor


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/cb",
        "https://app.example/cb/",
        "https://app.example/cb?x=1",
        "https://app.example/cb/../evil",
        "https://app.example:443/cb",
        "https://app.example.evil.example/cb",
        "https://APP.example/cb",
        "http://app.example/cb",
        "//app.example/cb",
        "javascript:alert(1)",
        "",
    ],
)
async def test_nobody_is_sent_to_an_address_that_is_not_registered(
    app: Party, person: str, browser: Visitor, uri: str
) -> None:
    """oidcc-ensure-registered-redirect-uri."""
    await browser.sign_in(person)
    for more in ({}, {"response_type": "token"}, {"scope": "nothing"}, {"code_challenge": ""}, {"prompt": "none"}):
        await browser.ask(app, redirect_uri=uri, **more)

        assert browser.arrived == ""
        assert browser.page.status_code in {400, 422}
        assert "location" not in browser.page.headers


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ("request", "request_not_supported"),
        ("request_uri", "request_uri_not_supported"),
        ("registration", "registration_not_supported"),
    ],
)
async def test_parameters_from_elsewhere_are_refused_as_not_supported(
    app: Party, person: str, browser: Visitor, parameter: str, error: str
) -> None:
    """oidcc-unsigned-request-object-…-or-rejected-as-unsupported, oidcc-request-uri-unsigned-…"""
    await browser.sign_in(person)
    await browser.ask(app, **{parameter: "https://app.example/object"})

    assert (browser.told["error"], browser.told["state"], browser.told["iss"]) == (error, "st-1", ISSUER)


@pytest.mark.parametrize(
    "changed",
    [
        {"code_challenge": "", "code_challenge_method": ""},
        {"code_challenge": ""},
        {"code_challenge_method": ""},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "x" * 42},
        {"code_challenge": "x" * 44},
        {"response_type": "token"},
        {"response_type": "id_token"},
        {"response_type": "code id_token"},
        {"response_mode": "fragment"},
        {"response_mode": "form_post"},
        {"scope": "email"},
        {"prompt": "none login"},
        {"prompt": "dance"},
        {"max_age": "-1"},
        {"max_age": "1e3"},
    ],
)
async def test_what_this_server_does_not_do_is_an_error_for_the_client_before_anybody_signs_in(
    app: Party, browser: Visitor, changed: dict[str, str]
) -> None:
    await browser.ask(app, **changed)

    assert browser.told["error"] in {
        "invalid_request",
        "unsupported_response_type",
        "unauthorized_client",
        "invalid_scope",
    }
    assert (browser.told["state"], browser.told["iss"]) == ("st-1", ISSUER)
    assert "code" not in browser.told


async def test_discovery_says_what_is_true(plane: ControlPlane, app: Party) -> None:
    """oidcc-discovery-endpoint-verification, and RFC 8414."""
    async with site(plane) as client:
        described = (await client.get("/.well-known/openid-configuration")).json()
        assert (await client.get("/.well-known/oauth-authorization-server")).json() == described
        for name, url in described.items():
            if name.endswith(("_endpoint", "_uri")):
                assert url.startswith(ISSUER)
                assert (await client.get(url.removeprefix(ISSUER))).status_code != 404, name
    assert described["issuer"] == ISSUER
    assert described["code_challenge_methods_supported"] == ["S256"]
    assert described["id_token_signing_alg_values_supported"] == ["EdDSA"]
    assert described["response_types_supported"] == ["code"]


async def test_a_parameter_that_is_there_twice_is_refused_without_sending_anybody_anywhere(
    app: Party, person: str, browser: Visitor
) -> None:
    await browser.sign_in(person)
    query = urlencode({"client_id": app.client.id, "redirect_uri": CALLBACK, "response_type": "code"})
    await browser.go(f"/oauth/authorize?{query}&redirect_uri=https%3A%2F%2Fevil.example%2Fcb")

    assert browser.arrived == ""
    assert browser.page.status_code == 400
