"""One's own security page: what changes needs a second factor shown just now."""

import pyotp
import pytest

from tests.console.people import PASSWORD, Account, make_account
from tests.support.authenticator import Authenticator
from tests.support.browser import open_browser
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN

NEW = "drei alte schirme im wind"


@pytest.fixture
async def ada(plane: ControlPlane) -> Account:
    return await make_account(plane)


async def test_the_password_changes_for_who_knows_the_present_one(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        wrong = await browser.submit("/security/password", current="not this one at all", new=NEW)
        assert wrong.status_code == 401
        await browser.open("/security")
        await browser.submit("/security/password", current=PASSWORD, new=NEW)
        assert browser.path == "/security"
        await browser.submit("/sign-out")
        await browser.submit("/sign-in", name="ada", password=NEW)

        assert browser.path == "/sign-in/second"


async def test_a_poor_password_is_refused_with_the_reason(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        answer = await browser.submit("/security/password", current=PASSWORD, new="passwordpassword")

        assert answer.status_code == 422
        assert "would be guessed" in browser.text


async def test_after_five_minutes_a_change_asks_for_the_second_factor_again(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        plane.clock.move(301)
        await browser.open("/security")
        await browser.submit("/security/recovery-codes")
        assert browser.path == "/step-up"
        await browser.submit("/step-up", code=ada.code())
        assert browser.path == "/security"
        await browser.submit("/security/recovery-codes")

        assert len([word for word in browser.seen.words if word.count("-") == 3]) == 10


async def test_a_passkey_steps_up_too(plane: ControlPlane, ada: Account):
    device = Authenticator(ORIGIN)
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.touch(device, name="blue key")
        plane.clock.move(301)
        await browser.submit("/security/recovery-codes")
        assert browser.path == "/step-up"
        await browser.touch(device)
        assert browser.path == "/security"

        answer = await browser.submit("/security/recovery-codes")

        assert answer.status_code == 200
        assert browser.path == "/security/recovery-codes"


async def test_the_script_is_told_to_step_up(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        plane.clock.move(301)
        answer = await browser.touch(Authenticator(ORIGIN), name="blue key")

        assert (answer.status_code, answer.json()) == (403, {"go": "/step-up?next=/security"})


async def test_another_authenticator_app_counts_after_its_first_code(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.submit("/security/totp")
        assert "<svg" in browser.answer.text
        secret = next(word for word in browser.seen.words if len(word) == 32 and word.isalnum())
        wrong = await browser.submit("/security/totp/confirmation", code="000000")
        assert wrong.status_code == 422
        await browser.submit("/security/totp/confirmation", code=pyotp.TOTP(secret).at(plane.clock.now()))
        assert browser.path == "/security"
        ada.secret = secret
        await browser.submit("/sign-out")
        await ada.sign_in(browser)

        assert browser.path == "/security"


async def test_a_session_that_is_ended_here_is_over_there(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as here, open_browser(plane, source="10.0.0.2") as there:
        await ada.sign_in(there)
        await ada.sign_in(here)
        row = next(part for part in here.answer.text.split("<li>") if "from 10.0.0.2" in part)
        await here.submit(row.partition('action="')[2].partition('"')[0])
        await there.open("/security")

        assert there.path == "/sign-in"


async def test_nobody_ends_the_session_of_somebody_else(plane: ControlPlane, ada: Account):
    eve = await make_account(plane, "eve")
    async with open_browser(plane) as hers, open_browser(plane, source="10.0.0.2") as his:
        await ada.sign_in(hers)
        await eve.sign_in(his)
        target = next(form.action for form in hers.seen.forms if form.action.endswith("/end"))
        await his.client.post(target, headers={"Origin": ORIGIN})
        await hers.open("/security")

        assert hers.path == "/security"


async def test_nobody_removes_the_passkey_of_somebody_else(plane: ControlPlane, ada: Account):
    eve = await make_account(plane, "eve")
    async with open_browser(plane) as hers, open_browser(plane, source="10.0.0.2") as his:
        await ada.sign_in(hers)
        await hers.touch(Authenticator(ORIGIN), name="blue key")
        await eve.sign_in(his)
        target = next(form.action for form in hers.seen.forms if form.action.endswith("/removal"))
        answer = await his.client.post(target, headers={"Origin": ORIGIN})
        await hers.open("/security")

        assert answer.status_code == 404
        assert "blue key" in hers.text


async def test_a_name_with_markup_in_it_is_only_text(plane: ControlPlane, ada: Account):
    async with open_browser(plane) as browser:
        await ada.sign_in(browser)
        await browser.touch(Authenticator(ORIGIN), name="<script>alert(1)</script>")

        assert "<script>alert" not in browser.answer.text
        assert "<script>alert(1)</script>" in browser.text
