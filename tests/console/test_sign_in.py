"""Signing in at the pages, as a browser does it."""

import httpx
import pytest

from tests.console.people import PASSWORD, Account, make_account
from tests.support.authenticator import Authenticator
from tests.support.browser import Browser, open_browser
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN


@pytest.fixture
async def ada(plane: ControlPlane) -> Account:
    return await make_account(plane)


async def test_password_and_code_sign_in_without_any_script(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)

        assert browser.path == "/security"
        assert "Signed in as ada" in browser.text


async def test_after_the_sign_in_one_is_where_one_wanted_to_go(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/step-up?next=/security")
        assert browser.path == "/sign-in"
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        await browser.submit("/sign-in/second", code=ada.code())

        assert browser.path == "/step-up"


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/%0d%0aX: y"]
)
async def test_nobody_is_sent_to_another_site(plane: ControlPlane, ada: Account, wanted: str):
    async with open_browser(plane) as browser:
        await browser.client.get("/sign-in")
        first = await browser.client.post(
            "/sign-in", params={"next": wanted}, data={"name": "ada", "password": PASSWORD}, headers={"Origin": ORIGIN}
        )
        second = await browser.client.post(
            "/sign-in/second", params={"next": wanted}, data={"code": ada.code()}, headers={"Origin": ORIGIN}
        )

        assert first.headers["location"].startswith("/sign-in/second?")
        assert second.headers["location"] == "/security"


async def test_a_wrong_password_and_an_unknown_name_get_the_same_page(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        known = await browser.submit("/sign-in", name="ada", password="wrong and long enough")
        await browser.open("/sign-in")
        unknown = await browser.submit("/sign-in", name="eve", password="wrong and long enough")

        assert known.status_code == unknown.status_code == 401
        assert masked(known) == masked(unknown)


async def test_a_wrong_password_keeps_the_name_and_where_one_wanted_to_go(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in?next=/step-up")
        await browser.submit("/sign-in", name="ada", password="wrong and long enough")

        assert browser.seen.forms[0].fields["name"] == "ada"
        assert browser.seen.forms[0].fields["password"] == ""
        assert "next=/step-up" in browser.seen.forms[0].action


async def test_the_password_alone_opens_nothing(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        assert browser.path == "/sign-in/second"

        await browser.open("/security")

        assert browser.path == "/sign-in"


async def test_a_wrong_code_may_be_corrected(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        await browser.submit("/sign-in/second", code="000000")
        assert "UTC" in browser.text

        await browser.submit("/sign-in/second", code=ada.code())

        assert browser.path == "/security"


async def test_a_recovery_code_is_a_second_factor_once(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        await browser.submit("/sign-in/second", code="", recovery_code=ada.recovery_codes[0])
        assert "9 of 10" in browser.text
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        answer = await browser.submit("/sign-in/second", code="", recovery_code=ada.recovery_codes[0])

        assert answer.status_code == 401


async def test_the_second_step_ends_after_five_minutes(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        plane.clock.move(301)
        await browser.submit("/sign-in/second", code=ada.code())

        assert browser.path == "/sign-in"


async def test_the_second_step_is_for_the_address_that_made_the_first(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser, open_browser(plane, source="10.9.9.9") as thief:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        thief.client.cookies = browser.client.cookies
        await thief.open("/sign-in/second")

        assert thief.path == "/sign-in"


async def test_a_half_sign_in_ends_with_the_whole_one(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        half = cookie_of(browser)
        await browser.submit("/sign-in/second", code=ada.code())
        assert cookie_of(browser) != half

        browser.client.cookies.clear()
        browser.client.cookies.set("__Host-redoubt", half)
        await browser.open("/sign-in/second")

        assert browser.path == "/sign-in"


async def test_signing_out_ends_the_session_and_not_only_the_cookie(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        kept = cookie_of(browser)
        await browser.submit("/sign-out")
        assert browser.path == "/sign-in"
        assert not browser.client.cookies

        browser.client.cookies.set("__Host-redoubt", kept)
        await browser.open("/security")

        assert browser.path == "/sign-in"


async def test_too_many_wrong_passwords_say_when_to_come_back(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        for _ in range(4):
            await browser.open("/sign-in")
            await browser.submit("/sign-in", name="ada", password="wrong and long enough")
        await browser.open("/sign-in")
        answer = await browser.submit("/sign-in", name="ada", password=PASSWORD)

        assert answer.status_code == 429
        assert answer.headers["retry-after"] in {"1", "2"}
        assert "too many attempts" in browser.text


async def test_a_passkey_made_on_the_security_page_signs_in_alone(plane: ControlPlane, ada: Account):
    device = Authenticator(ORIGIN)
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.touch(device, name="blue key")
        assert "blue key" in browser.text
    async with open_browser(plane) as browser:
        await browser.open("/sign-in")
        await browser.touch(device)

        assert browser.path == "/security"


async def test_a_passkey_is_the_second_step_after_a_password(plane: ControlPlane, ada: Account):
    device = Authenticator(ORIGIN)
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.touch(device, name="blue key")
        await browser.submit("/sign-out")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        await browser.touch(device)

        assert browser.path == "/security"


async def test_the_passkey_of_somebody_else_is_no_second_step(plane: ControlPlane, ada: Account):
    eve, device = await make_account(plane, "eve"), Authenticator(ORIGIN)
    async with open_browser(plane) as browser:
        await eve.sign_in(browser)
        await browser.touch(device, name="mine")
        await browser.submit("/sign-out")
        await browser.submit("/sign-in", name="ada", password=PASSWORD)
        answer = await browser.touch(device)

        assert answer.status_code == 401
        await browser.open("/security")
        assert browser.path == "/sign-in"


LIES = {
    "another origin": {"origin": "https://evil.example"},
    "another party": {"rp_id": "evil.example"},
    "no user verification": {"verifies_user": False},
    "a counter that goes back": {"counter": -1},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_passkey_that_lies_is_refused_at_the_page(plane: ControlPlane, ada: Account, lie: dict[str, object]):
    device = Authenticator(ORIGIN, counter=5)
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.touch(device, name="blue key")
        await browser.submit("/sign-out")
        for name, value in lie.items():
            setattr(device, name, value)
        answer = await browser.touch(device)

        assert answer.status_code == 401
        assert answer.json()["code"] == "wrong_factor"


def masked(answer: httpx.Response) -> str:
    """Return the page without what differs for everybody: the request's id and the name that was typed."""
    words = answer.text.replace('value="ada"', "").replace('value="eve"', "")
    return " ".join(word for word in words.split() if "req_" not in word)


def cookie_of(browser: Browser) -> str:
    return browser.client.cookies["__Host-redoubt"]
