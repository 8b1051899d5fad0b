"""The modules of the OpenID Foundation's Basic OP plan that apply, one test each; its name is in the docstring."""

from controlplane.domains.audit.types import Role
from controlplane.kit.jws import key_of_jwk, read_jwt
from tests.support.control_plane import ControlPlane
from tests.support.oauth import CALLBACK, ISSUER, Party, challenge_of, site
from tests.support.visitor import VERIFIER, Visitor


async def allowed(browser: Visitor, app: Party, **changed: str) -> dict[str, object]:
    """Walk through consent and the token endpoint; return the token response."""
    await browser.ask(app, **changed)
    if not browser.arrived:
        await browser.allow()
    answer = await app.redeem(browser.told["code"])
    assert answer.status_code == 200, answer.text
    return answer.json()


async def claims_of(plane: ControlPlane, id_token: object) -> dict[str, object]:
    async with site(plane) as client:
        published = (await client.get("/oauth/jwks")).json()["keys"]
    return read_jwt(str(id_token), {jwk["kid"]: key_of_jwk(jwk) for jwk in published})


async def userinfo(plane: ControlPlane, method: str, **sent: object) -> dict[str, object]:
    async with site(plane) as client:
        answer = await client.request(method, "/oauth/userinfo", **sent)  # type: ignore[arg-type]  # of httpx's own
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_person_signs_in_consents_and_the_client_learns_who_it_is(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-server."""
    await browser.sign_in(person)
    body = await allowed(browser, app, scope="openid profile", nonce="n-7")

    claims = await claims_of(plane, body["id_token"])

    assert browser.told["state"] == "st-1"
    assert browser.told["iss"] == ISSUER  # RFC 9207
    assert (claims["iss"], claims["aud"], claims["nonce"], claims["name"]) == (ISSUER, app.client.id, "n-7", "olga")


async def test_a_request_without_response_type_is_refused_at_the_client(
    app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-response-type-missing."""
    await browser.sign_in(person)
    await browser.ask(app, response_type="")

    assert browser.told["error"] in {"unsupported_response_type", "invalid_request"}
    assert (browser.told["state"], browser.told["iss"]) == ("st-1", ISSUER)


async def test_an_id_token_is_signed_by_a_published_key_that_its_header_names(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-idtoken-signature (with EdDSA, the one algorithm here)."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    claims = await claims_of(plane, body["id_token"])

    assert claims["sub"]


async def test_userinfo_answers_a_get_with_a_bearer_header(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-userinfo-get."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    told = await userinfo(plane, "GET", headers={"Authorization": f"Bearer {body['access_token']}"})

    assert told["sub"] == (await claims_of(plane, body["id_token"]))["sub"]


async def test_userinfo_answers_a_post_with_a_bearer_header(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-userinfo-post-header."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    told = await userinfo(plane, "POST", headers={"Authorization": f"Bearer {body['access_token']}"})

    assert told["sub"]


async def test_userinfo_answers_a_post_with_the_token_in_its_body(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-userinfo-post-body."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    told = await userinfo(plane, "POST", data={"access_token": body["access_token"]})

    assert told["sub"]


async def test_a_request_without_nonce_is_served(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-ensure-request-without-nonce-succeeds-for-code-flow."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    assert "nonce" not in await claims_of(plane, body["id_token"])


async def test_the_scope_profile_gives_the_name_and_without_it_there_is_none(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-scope-profile."""
    await browser.sign_in(person)
    with_it = await allowed(browser, app, scope="openid profile")
    without = await allowed(browser, app, scope="openid")

    for body, name in ((with_it, "olga"), (without, None)):
        told = await userinfo(plane, "GET", headers={"Authorization": f"Bearer {body['access_token']}"})
        assert told.get("name") == name


async def test_scopes_that_are_not_known_here_are_left_out_and_the_answer_says_so(
    app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-scope-all (email, address and phone are not claims of this site)."""
    await browser.sign_in(person)
    body = await allowed(browser, app, scope="openid profile email address phone")

    assert body["scope"] == "openid profile"


async def test_prompt_login_asks_again_although_somebody_is_signed_in_and_auth_time_is_new(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-prompt-login."""
    await browser.sign_in(person)
    first = await claims_of(plane, (await allowed(browser, app))["id_token"])
    plane.clock.move(5)

    await browser.ask(app, prompt="login")
    assert browser.path == "/sign-in"
    back = dict(browser.page.request.url.params)["next"]
    await browser.go(back)
    assert browser.path == "/sign-in"  # coming back without having signed in does not count
    plane.clock.move(2)
    await browser.sign_in(person)
    await browser.go(back)
    second = await claims_of(plane, (await app.redeem(browser.told["code"])).json()["id_token"])

    assert second["sub"] == first["sub"]
    assert int(str(second["auth_time"])) > int(str(first["auth_time"]))


async def test_prompt_none_without_a_session_is_an_error_for_the_client(app: Party, browser: Visitor) -> None:
    """oidcc-prompt-none-not-logged-in."""
    await browser.ask(app, prompt="none")

    assert (browser.told["error"], browser.told["state"], browser.told["iss"]) == ("login_required", "st-1", ISSUER)


async def test_prompt_none_with_a_session_and_a_consent_asks_nothing(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-prompt-none-logged-in."""
    await browser.sign_in(person)
    await browser.ask(app, prompt="none")
    assert browser.told["error"] == "consent_required"
    first = await claims_of(plane, (await allowed(browser, app))["id_token"])

    await browser.ask(app, prompt="none")
    second = await claims_of(plane, (await app.redeem(browser.told["code"])).json()["id_token"])

    assert (second["sub"], second["auth_time"]) == (first["sub"], first["auth_time"])


async def test_max_age_of_one_second_asks_again_two_seconds_later(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-max-age-1."""
    await browser.sign_in(person)
    await allowed(browser, app)
    plane.clock.move(2)

    await browser.ask(app, max_age="1")
    assert browser.path == "/sign-in"
    back = dict(browser.page.request.url.params)["next"]
    await browser.sign_in(person)
    plane.clock.move(30)  # the person took a while; the sign-in was asked for and done
    await browser.go(back)

    claims = await claims_of(plane, (await app.redeem(browser.told["code"])).json()["id_token"])
    assert claims["auth_time"]


async def test_max_age_of_ten_thousand_seconds_asks_nothing(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-max-age-10000."""
    await browser.sign_in(person)
    first = await claims_of(plane, (await allowed(browser, app))["id_token"])
    plane.clock.move(60)

    second = await claims_of(plane, (await allowed(browser, app, max_age="10000"))["id_token"])

    assert second["auth_time"] == first["auth_time"]


async def test_a_parameter_that_nobody_knows_is_ignored(app: Party, person: str, browser: Visitor) -> None:
    """oidcc-ensure-request-with-unknown-parameter-succeeds."""
    await browser.sign_in(person)

    assert "id_token" in await allowed(browser, app, extra="foobar")


async def test_an_id_token_hint_of_the_same_person_asks_nothing_and_of_another_asks_who_it_is(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-id-token-hint."""
    await browser.sign_in(person)
    hint = str((await allowed(browser, app))["id_token"])
    plane.clock.move(3600)  # an old id_token still says who
    other = await plane.person(Role.OPERATOR, name="otto")

    await browser.sign_in(person)
    await browser.ask(app, prompt="none", id_token_hint=hint)
    assert browser.told["code"]
    await browser.sign_in(other)
    await browser.ask(app, prompt="none", id_token_hint=hint)
    assert browser.told["error"] == "login_required"
    await browser.ask(app, id_token_hint=hint)
    assert browser.path == "/sign-in"


async def test_a_login_hint_fills_in_the_name_and_is_only_text(app: Party, browser: Visitor) -> None:
    """oidcc-login-hint."""
    await browser.ask(app, login_hint='olga"><script>')

    assert browser.path == "/sign-in"
    assert "<script>alert" not in browser.page.text
    assert 'olga"&gt;' not in browser.page.text
    assert "olga&#34;&gt;&lt;script&gt;" in browser.page.text


async def test_acr_values_are_accepted_and_the_acr_says_what_was_shown(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-ensure-request-with-acr-values-succeeds."""
    wanted = "urn:redoubt:acr:two-factors"
    await browser.sign_in(person)
    two = await claims_of(plane, (await allowed(browser, app, acr_values=wanted))["id_token"])
    await browser.sign_in(person, methods=("password",))
    one = await claims_of(plane, (await allowed(browser, app, acr_values=wanted))["id_token"])

    assert (two["acr"], one["acr"]) == (wanted, "urn:redoubt:acr:one-factor")


async def test_a_code_that_was_used_is_refused_and_its_token_ends(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-codereuse."""
    await browser.sign_in(person)
    body = await allowed(browser, app)

    again = await app.redeem(browser.told["code"])

    assert again.json()["error"] == "invalid_grant"
    async with site(plane) as client:
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        assert (await client.get("/oauth/userinfo", headers=headers)).status_code == 401


async def test_a_code_that_is_used_again_half_a_minute_later_is_refused_and_its_token_ends(
    plane: ControlPlane, app: Party, person: str, browser: Visitor
) -> None:
    """oidcc-codereuse-30seconds."""
    await browser.sign_in(person)
    body = await allowed(browser, app)
    plane.clock.move(30)

    again = await app.redeem(browser.told["code"])

    assert again.json()["error"] == "invalid_grant"
    assert (await app.post("/oauth/introspect", {"token": str(body["access_token"])})).json() == {"active": False}


async def test_an_authorization_request_by_post_is_served(app: Party, person: str, browser: Visitor) -> None:
    """oidcc-ensure-post-request-succeeds."""
    await browser.sign_in(person)
    await allowed(browser, app)
    fields = {
        "response_type": "code",
        "client_id": app.client.id,
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "state": "posted",
        "code_challenge": challenge_of(VERIFIER),
        "code_challenge_method": "S256",
    }

    answer = await browser.client.post("/oauth/authorize", data=fields, headers={"Origin": "https://app.example"})
    await browser.go(answer.headers["location"])

    assert browser.told["state"] == "posted"
    assert (await app.redeem(browser.told["code"])).status_code == 200


async def test_a_client_secret_in_the_body_is_refused(app: Party, person: str, browser: Visitor) -> None:
    """oidcc-server-client-secret-post (refused: one way of proving oneself is enough)."""
    await browser.sign_in(person)
    await allowed(browser, app)
    await browser.ask(app)
    secret, app.secret = str(app.secret), None

    assert (await app.redeem(browser.told["code"], client_secret=secret)).json()["error"] == "invalid_client"


async def test_a_refresh_token_gives_a_new_pair_for_the_same_scopes(app: Party, person: str, browser: Visitor) -> None:
    """oidcc-refresh-token."""
    await browser.sign_in(person)
    body = await allowed(browser, app, scope="openid profile")

    renewed = (await app.refresh(str(body["refresh_token"]))).json()

    assert renewed["scope"] == body["scope"]
    assert renewed["access_token"] != body["access_token"]
    assert renewed["refresh_token"] != body["refresh_token"]


async def test_pkce_with_s256_is_served(app: Party, person: str, browser: Visitor) -> None:
    """oidcc-ensure-request-with-valid-pkce-succeeds."""
    await browser.sign_in(person)

    assert "access_token" in await allowed(browser, app)
