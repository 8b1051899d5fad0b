"""Somebody who may sign in at a browser."""

from dataclasses import dataclass

import pyotp

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.factors import service as factors
from controlplane.domains.identity.service import people
from tests.support.browser import Browser
from tests.support.control_plane import ControlPlane

PASSWORD = "ein igel frisst nebel"


@dataclass
class Account:
    plane: ControlPlane
    id: str
    name: str
    secret: str
    recovery_codes: tuple[str, ...]

    def code(self) -> str:
        """Return a code that was not used: each one moves the clock on."""
        self.plane.clock.move(30)
        return pyotp.TOTP(self.secret).at(self.plane.clock.now())

    async def sign_in(self, browser: Browser, path: str = "/security") -> None:
        await browser.open(path)
        await browser.submit("/sign-in", name=self.name, password=PASSWORD)
        await browser.submit("/sign-in/second", code=self.code())


async def make_account(plane: ControlPlane, name: str = "ada") -> Account:
    """Make an operator with a password, an authenticator app and recovery codes."""
    await plane.person(Role.OPERATOR, name=name)
    async with plane.database.transaction() as tx:
        principal_id = await people.find_user_id(tx, name)
        assert principal_id
        actor = Actor(principal_id, Role.OPERATOR, strong_at=tx.now)
        await factors.set_password(
            tx, actor, plane.means, principal_id=principal_id, password=PASSWORD, staff=True, context=frozenset()
        )
        begun = await factors.begin_totp(tx, actor, plane.means, principal_id=principal_id, name=name)
        code = pyotp.TOTP(begun.secret).at(tx.now)
        await factors.confirm_totp(tx, actor, plane.means, principal_id=principal_id, code=code)
        codes = await factors.make_recovery_codes(tx, actor, principal_id=principal_id)
    return Account(plane, principal_id, name, begun.secret, codes)
