"""Consent, the approval of a device, and signing out, as a person sees them."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from controlplane.domains.audit.types import Role
from controlplane.domains.oauth.service import clients
from controlplane.domains.oauth.types import CLI, ClientKind
from tests.support.browser import Seen
from tests.support.control_plane import ControlPlane
from tests.support.oauth import ADMIN, CALLBACK, DEVICE_GRANT, ISSUER, Party, events, make_keys, native_party, web_party
from tests.support.visitor import Visitor, visitor


@pytest.fixture
async def browser(plane: ControlPlane) -> AsyncIterator[Visitor]:
    await make_keys(plane)
    async with visitor(plane) as made:
        yield made


async def begin(cli: Party) -> dict[str, str]:
    fields = {**cli.fields, "scope": "openid api", "device_host": "node7"}
    return (await cli.post("/oauth/device_authorization", fields)).json()


async def poll(cli: Party, started: dict[str, str]) -> dict[str, str]:
    fields = {"grant_type": DEVICE_GRANT, "device_code": started["device_code"], **cli.fields}
    return (await cli.post("/oauth/token", fields)).json()


async def test_consent_names_the_client_the_person_the_scopes_and_where_it_goes(
    plane: ControlPlane, browser: Visitor
) -> None:
    app = await web_party(plane)
    await browser.sign_in(await plane.person(Role.OPERATOR, name="olga"))
    await browser.ask(app, scope="openid profile")

    text = " ".join(Seen(browser.page.text).words)
    policy = browser.page.headers["content-security-policy"]
    assert all(word in text for word in ("app", "olga", "know your name", "app.example"))
    assert "form-action 'self' https://app.example" in policy
    assert "frame-ancestors 'none'" in policy
    assert Seen(browser.page.text).inline == []


async def test_a_no_is_told_to_the_client_and_kept_on_record(plane: ControlPlane, browser: Visitor) -> None:
    app = await web_party(plane)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.ask(app)
    await browser.submit("/oauth/consent", decision="deny")

    assert (browser.told["error"], browser.told["iss"]) == ("access_denied", ISSUER)
    assert "authorization.refused" in await events(plane)


async def test_another_site_cannot_press_the_button(plane: ControlPlane, browser: Visitor) -> None:
    app = await web_party(plane)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.ask(app)
    await browser.submit("/oauth/consent", origin="https://evil.example", decision="allow")

    assert browser.arrived == ""
    assert browser.page.status_code == 403
    assert "authorization.granted" not in await events(plane)


async def test_what_is_sent_with_the_button_is_checked_again(plane: ControlPlane, browser: Visitor) -> None:
    app = await web_party(plane)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.ask(app)
    bent = urlencode({"client_id": app.client.id, "redirect_uri": "https://evil.example/cb", "response_type": "code"})
    await browser.submit("/oauth/consent", asked=bent, decision="allow")

    assert browser.arrived == ""
    assert browser.page.status_code in {400, 422}


async def test_a_native_client_comes_back_on_any_port_of_loopback_and_is_asked_about_every_time(
    plane: ControlPlane, browser: Visitor
) -> None:
    tool = await native_party(plane)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    for _ in range(2):
        await browser.ask(tool, redirect_uri="http://127.0.0.1:51004/cb")
        await browser.allow()
        assert browser.arrived.startswith("http://127.0.0.1:51004/cb?code=")
    for uri in ("http://localhost:51004/cb", "http://127.0.0.1:51004/other", "http://127.0.0.1.evil.example/cb"):
        await browser.ask(tool, redirect_uri=uri)
        assert browser.arrived == ""


async def test_a_browser_that_comes_from_elsewhere_asks_once_more_from_here_because_its_cookie_did_not_come(
    plane: ControlPlane, browser: Visitor
) -> None:
    app = await web_party(plane)
    query = urlencode(
        {"client_id": app.client.id, "redirect_uri": CALLBACK, "response_type": "code", "state": "x" * 20}
    )
    query += "&code_challenge=" + "a" * 43 + "&code_challenge_method=S256&scope=openid"

    first = await browser.client.get(f"/oauth/authorize?{query}")
    second = await browser.client.get(first.headers["refresh"].partition("url=")[2])

    assert first.status_code == 200
    assert second.headers["location"].startswith("/sign-in?next=/oauth/authorize")


async def test_a_device_is_approved_by_typing_its_code_twice(plane: ControlPlane, browser: Visitor) -> None:
    cli = Party(plane, CLI)
    started = await begin(cli)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.go("/device")
    await browser.submit("/device", user_code=started["user_code"])
    text = " ".join(Seen(browser.page.text).words)
    assert all(word in text for word in ("10.0.0.9", "node7", "the redoubt command", "everything here"))
    assert started["user_code"] not in browser.page.text  # it is read from the device, not from here

    await browser.submit("/device/decision", user_code=started["user_code"], decision="allow")

    assert "is signed in" in " ".join(Seen(browser.page.text).words)
    assert "access_token" in await poll(cli, started)


async def test_a_code_that_is_not_typed_again_approves_nothing(plane: ControlPlane, browser: Visitor) -> None:
    cli = Party(plane, CLI)
    started = await begin(cli)
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.go("/device")
    await browser.submit("/device", user_code=started["user_code"])
    await browser.submit("/device/decision", user_code="BCDF-GHJK", decision="allow")

    assert browser.page.status_code == 404
    assert (await poll(cli, started))["error"] == "authorization_pending"


async def test_a_session_types_five_wrong_codes_and_no_more(plane: ControlPlane, browser: Visitor) -> None:
    cli = Party(plane, CLI)
    person = await plane.person(Role.OPERATOR)
    await browser.sign_in(person)
    await browser.go("/device")
    page = browser.page
    for _ in range(5):
        plane.clock.move(200)  # the throttle of every factor has been waited for
        browser.page = page
        await browser.submit("/device", user_code="BCDF-GHJK")
        assert browser.page.status_code == 404
    started = await begin(cli)
    plane.clock.move(200)
    browser.page = page
    await browser.submit("/device", user_code=started["user_code"])
    assert browser.page.status_code == 409  # the right one, too late


async def test_guesses_at_a_code_are_throttled_like_guesses_at_a_password(
    plane: ControlPlane, browser: Visitor
) -> None:
    await browser.sign_in(await plane.person(Role.OPERATOR))
    await browser.go("/device")
    page, found = browser.page, []
    for _ in range(5):
        browser.page = page
        await browser.submit("/device", user_code="BCDF-GHJK")
        found.append(browser.page.status_code)
    assert 429 in found


async def test_signing_out_for_a_client_is_asked_first_and_goes_back_only_where_it_is_registered(
    plane: ControlPlane, browser: Visitor
) -> None:
    after = "https://app.example/bye"
    async with plane.database.transaction() as tx:
        ask = clients.ClientAsk(
            "app", ClientKind.WEB, frozenset({"openid"}), None, (CALLBACK,), post_logout_redirect_uris=(after,)
        )
        made = await clients.create_client(tx, ADMIN(plane), ask=ask)
    app, person = Party(plane, made.client, made.secret), await plane.person(Role.OPERATOR)
    await browser.sign_in(person)
    await browser.ask(app)
    await browser.allow()
    hint = (await app.redeem(browser.told["code"])).json()["id_token"]

    await browser.go(
        f"/oauth/end_session?{urlencode({'id_token_hint': hint, 'post_logout_redirect_uri': 'https://evil.example/'})}"
    )
    assert browser.arrived == ""
    await browser.go(
        f"/oauth/end_session?{urlencode({'id_token_hint': hint + 'x', 'post_logout_redirect_uri': after})}"
    )
    assert browser.page.status_code in {400, 422}
    await browser.go(
        f"/oauth/end_session?{urlencode({'id_token_hint': hint, 'post_logout_redirect_uri': after, 'state': 's'})}"
    )
    await browser.submit("/oauth/end_session/confirmation")

    assert browser.arrived == f"{after}?state=s"
    await browser.go("/device")
    assert browser.path == "/sign-in"
