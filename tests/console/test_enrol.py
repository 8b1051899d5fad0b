"""First entry at the pages: a code, a password, an authenticator app."""

import pyotp
from sqlalchemy import text

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.identity.service import enrolment, people
from tests.console.people import PASSWORD
from tests.support.browser import Browser, open_browser
from tests.support.control_plane import ControlPlane


async def code_for(plane: ControlPlane, name: str) -> str:
    """Have a new operator made, and return the code with which he enrols."""
    async with plane.database.transaction() as tx:
        admin = Actor("user_root", Role.PLATFORM_ADMIN, strong_at=tx.now)
        await people.create_user(tx, admin, name=name, project="", roles=(Role.OPERATOR,))
        return (await enrolment.create_user_code(tx, admin, name=name)).code


def secret_on(browser: Browser) -> str:
    return next(word for word in browser.seen.words if len(word) == 32 and word.isalnum())


async def test_a_code_lets_its_holder_in_with_a_password_and_an_app(plane: ControlPlane):
    code = await code_for(plane, "ada")
    async with open_browser(plane) as browser:
        await browser.open("/enrol")
        await browser.submit("/enrol", code=code, password=PASSWORD)
        now = pyotp.TOTP(secret_on(browser)).at(plane.clock.now())
        await browser.submit("/enrol/confirmation", code=now)
        assert len([word for word in browser.seen.words if word.count("-") == 3]) == 10
        await browser.open("/security")

        assert "Signed in as ada" in browser.text


async def test_a_wrong_first_code_may_be_corrected(plane: ControlPlane):
    code = await code_for(plane, "ada")
    async with open_browser(plane) as browser:
        await browser.open("/enrol")
        await browser.submit("/enrol", code=code, password=PASSWORD)
        secret = secret_on(browser)
        wrong = await browser.submit("/enrol/confirmation", code="000000")
        assert wrong.status_code == 422
        await browser.submit("/enrol/confirmation", code=pyotp.TOTP(secret).at(plane.clock.now()))

        assert browser.answer.status_code == 200
        assert "enrolled as ada" in browser.text


async def test_a_poor_password_spends_no_code(plane: ControlPlane):
    code = await code_for(plane, "ada")
    async with open_browser(plane) as browser:
        await browser.open("/enrol")
        refused = await browser.submit("/enrol", code=code, password="passwordpassword")
        assert refused.status_code == 422
        assert browser.seen.forms[0].fields["code"] == code
        await browser.submit("/enrol", password=PASSWORD)

        assert "scan this picture" in browser.text


async def test_codes_are_not_guessed_without_end(plane: ControlPlane):
    async with open_browser(plane, source="10.6.6.6") as browser:
        statuses = []
        for n in range(22):
            await browser.open("/enrol")
            statuses.append((await browser.submit("/enrol", code=f"enrol_{n}", password=PASSWORD)).status_code)

        assert statuses == [401] * 21 + [429]


async def test_a_code_is_in_no_record(plane: ControlPlane):
    code = await code_for(plane, "ada")
    async with open_browser(plane) as browser:
        await browser.open("/enrol")
        await browser.submit("/enrol", code=code, password=PASSWORD)
    async with plane.database.transaction() as tx:
        kept = (await tx.session.scalars(text("select e::text from audit_events e"))).all()

    assert kept
    assert not [row for row in kept if code in row or PASSWORD in row]
