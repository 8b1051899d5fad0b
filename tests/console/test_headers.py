"""What a page may do, and who may make it do something."""

from collections.abc import Iterator

import pytest

from controlplane.console.page import LOCAL, TEMPLATES, local_path
from tests.attacks.routes import Served, served_by
from tests.console.people import Account, make_account
from tests.support.browser import Seen, open_browser
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN

FOREIGN = [
    None,
    "null",
    "https://evil.example",
    "http://console.testsite.example:8443",
    ORIGIN + ".evil.example",
    ORIGIN.rpartition(":")[0],
]


# OpenID Connect lets an application's site post these: they change nothing and answer with a page that asks.
ASKED_BY_OTHERS = {"/oauth/authorize", "/oauth/end_session"}


@pytest.fixture
async def ada(plane: ControlPlane) -> Account:
    return await make_account(plane)


def changing(plane: ControlPlane) -> Iterator[Served]:
    for served in served_by(plane):
        tags = getattr(served.route, "tags", None) or []
        if {"console", "console-data"} & set(tags) and served.method != "GET" and served.path not in ASKED_BY_OTHERS:
            yield served


@pytest.mark.parametrize("origin", FOREIGN)
async def test_nothing_changes_by_a_request_of_another_site(plane: ControlPlane, ada: Account, origin: str | None):
    headers = {"Origin": origin} if origin else {}
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        answers = {
            (one.method, one.path): (await browser.client.request(one.method, one.url, headers=headers)).status_code
            for one in changing(plane)
        }
        await browser.open("/security")

        assert len(answers) >= 18
        assert {route: code for route, code in answers.items() if code != 403} == {}
        assert browser.path == "/security"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_the_cookie_counts_for_no_method_of_another_site(plane: ControlPlane, ada: Account, method: str):
    from controlplane.web.browser import Browser  # noqa: PLC0415 - a route of this test's own

    async def erase(actor: Browser) -> str:
        return actor.id

    plane.admin_app.add_api_route("/erase", erase, methods=[method])
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        foreign = await browser.client.request(method, "/erase", headers={"Origin": "https://evil.example"})
        own = await browser.client.request(method, "/erase", headers={"Origin": ORIGIN})

        assert (foreign.status_code, own.status_code) == (403, 200)


async def test_the_cookie_opens_no_route_of_the_api(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        answer = await browser.client.get("/api/v1/whoami")

        assert answer.status_code == 401


async def test_the_cookie_is_bound_to_host_path_and_https_and_hidden_from_scripts(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        answer = await browser.client.post(
            "/sign-in", data={"name": "ada", "password": "ein igel frisst nebel"}, headers={"Origin": ORIGIN}
        )

        name, *attributes = answer.headers["set-cookie"].split("; ")
        assert name.startswith("__Host-redoubt=rdh_")
        assert {a.lower() for a in attributes} == {"secure", "httponly", "samesite=strict", "path=/"}


@pytest.mark.parametrize("path", ["/sign-in", "/enrol", "/security", "/step-up"])
async def test_a_page_runs_nothing_that_is_not_ours(plane: ControlPlane, ada: Account, path: str):
    async with open_browser(plane) as browser:
        if path in {"/security", "/step-up"}:
            await ada.sign_in(browser)
        answer = await browser.open(path)

        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert Seen(answer.text).inline == []
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["strict-transport-security"]
        # with no-referrer a browser would send `Origin: null` with our own forms
        assert answer.headers["referrer-policy"] == "same-origin"


def test_no_template_holds_anything_inline_or_from_elsewhere():
    sources = {name: TEMPLATES.loader.get_source(TEMPLATES, name)[0] for name in TEMPLATES.list_templates()}  # type: ignore[union-attr]  # it has one

    assert [name for name, source in sources.items() if Seen(source).inline] == []
    assert [name for name, source in sources.items() if "http:" in source or "https:" in source] == []
    assert [name for name, source in sources.items() if "|safe" in source] == []


async def test_static_files_are_served_with_their_type(plane: ControlPlane):
    async with open_browser(plane) as browser:
        script = await browser.client.get("/static/passkeys.js")
        sheet = await browser.client.get("/static/console.css")
        outside = await browser.client.get("/static/../app.py")

        assert script.headers["content-type"].startswith("text/javascript")
        assert sheet.headers["content-type"].startswith("text/css")
        assert outside.status_code in {400, 404}


@pytest.mark.parametrize(
    "good", ["/security", "/device", "/oauth/authorize?client_id=a&redirect_uri=http%3A%2F%2F127.0.0.1%3A9", "/"]
)
def test_a_path_of_this_site_is_where_one_may_be_sent(good: str):
    assert local_path(good) == good


@pytest.mark.parametrize(
    "bad",
    ["", "//evil.example", "https://evil.example", "/a\\b", "/a\nb", "security", "/" + "a" * 3000, "/a b"],
)
def test_anything_else_is_not(bad: str):
    assert local_path(bad) == "/security"
    assert not LOCAL.fullmatch("//evil.example")
