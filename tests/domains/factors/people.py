"""Somebody with factors, over a real database."""

from dataclasses import dataclass, replace
from typing import Self

import pyotp

from controlplane.domains.audit.types import NEWCOMER, Actor, Role
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim, Proof
from controlplane.kit.tx import Database
from tests.support.control_plane import ControlPlane

PASSWORD = "ein igel frisst nebel"


@dataclass
class Person:
    """`secret` is that of the authenticator app, "" without one."""

    plane: ControlPlane
    id: str
    secret: str = ""
    source: str = "10.0.0.1"

    @property
    def actor(self) -> Actor:
        return Actor(self.id, Role.OPERATOR, strong_at=self.plane.clock.now())

    @property
    def claim(self) -> Claim:
        return Claim(self.id, "ada", self.source)

    @property
    def database(self) -> Database:
        return self.plane.database

    def code(self) -> str:
        return pyotp.TOTP(self.secret).at(self.plane.clock.now())

    def elsewhere(self, source: str) -> Self:
        return replace(self, source=source)

    async def set_password(self, password: str = PASSWORD) -> None:
        async with self.database.transaction() as tx:
            await factors.set_password(
                tx, self.actor, self.plane.means, principal_id=self.id, password=password, staff=True,
                context=frozenset({"ada"}),
            )  # fmt: skip

    async def set_totp(self) -> None:
        """Set an authenticator app up, and move on to a time step that it has not used."""
        async with self.database.transaction() as tx:
            begun = await factors.begin_totp(tx, self.actor, self.plane.means, principal_id=self.id, name="ada")
        self.secret = begun.secret
        async with self.database.transaction() as tx:
            await factors.confirm_totp(tx, self.actor, self.plane.means, principal_id=self.id, code=self.code())
        self.plane.clock.move(30)

    async def show_password(self, password: str = PASSWORD) -> str:
        async with self.database.transaction() as tx:
            return await factors.verify_password(tx, NEWCOMER, self.plane.means, self.claim, password=password)

    async def show_code(self, code: str) -> None:
        async with self.database.transaction() as tx:
            await factors.verify_totp(tx, NEWCOMER, self.plane.means, self.claim, code=code)

    async def show_recovery_code(self, code: str) -> None:
        async with self.database.transaction() as tx:
            await factors.verify_recovery_code(tx, NEWCOMER, self.plane.means, self.claim, code=code)

    async def prove(self, *, password: str = PASSWORD, otp: str = "", recovery_code: str = "") -> Proof:
        async with self.database.transaction() as tx:
            return await factors.prove(
                tx, NEWCOMER, self.plane.means, self.claim, password=password, otp=otp, recovery_code=recovery_code
            )


async def make_person(plane: ControlPlane, *, totp: bool = True, name: str = "user_ada") -> Person:
    person = Person(plane, name)
    await person.set_password()
    if totp:
        await person.set_totp()
    return person
