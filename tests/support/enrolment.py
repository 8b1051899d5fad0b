"""How people come in, in tests: through the same doors, with the codes that an authenticator would show."""

from dataclasses import dataclass

import httpx

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import enrolment
from controlplane.domains.identity.types import CONSOLE
from controlplane.kit.totp import totp_at
from tests.support.control_plane import ControlPlane

PASSWORD = "quartz lantern mosaic 71"


@dataclass(frozen=True)
class Somebody:
    """What one person holds after enrolling."""

    name: str
    otp_secret: str
    access: str
    refresh: str
    recovery_codes: tuple[str, ...]
    share: str
    next_code: str
    password: str = PASSWORD


async def console_code(plane: ControlPlane, *, lost: Role | None = None) -> str:
    async with plane.database.transaction() as tx:
        made = await enrolment.create_console_code(tx, CONSOLE, lost=lost, reason="in a test" if lost else "")
    return made.code


async def begin(plane: ControlPlane, code: str, name: str | None, password: str = PASSWORD) -> httpx.Response:
    async with plane.client() as client:
        return await client.post("/enrolments", json={"code": code, "name": name, "password": password})


async def finish(plane: ControlPlane, ticket: str, secret: str) -> httpx.Response:
    otp = totp_at(secret, plane.clock.now())
    async with plane.client() as client:
        return await client.post("/enrolments/confirmations", json={"ticket": ticket, "otp": otp})


async def enrol(plane: ControlPlane, code: str, name: str | None = None) -> Somebody:
    """Come in with a code; fails where the site refuses."""
    begun = await begin(plane, code, name)
    assert begun.status_code == httpx.codes.CREATED, begun.text
    done = await finish(plane, begun.json()["ticket"], begun.json()["totp_secret"])
    assert done.status_code == httpx.codes.CREATED, done.text
    made = done.json()
    return Somebody(
        name=made["name"],
        otp_secret=begun.json()["totp_secret"],
        access=made["tokens"]["access_token"],
        refresh=made["tokens"]["refresh_token"],
        recovery_codes=tuple(made["recovery_codes"]),
        share=made["share"],
        next_code=made["next_code"]["code"] if made["next_code"] else "",
    )


async def first_start(plane: ControlPlane) -> tuple[Somebody, Somebody]:
    """Enrol both administrators of a new site."""
    ada = await enrol(plane, await console_code(plane), "ada")
    return ada, await enrol(plane, ada.next_code, "grace")


async def sign_in(plane: ControlPlane, who: Somebody, **instead: str) -> httpx.Response:
    """Sign in with a code of the next half minute: one that was shown before does not count."""
    plane.clock.move(30)
    asked = {"name": who.name, "password": who.password, "otp": totp_at(who.otp_secret, plane.clock.now())}
    async with plane.client() as client:
        return await client.post("/sign-ins", json={**asked, **instead})
