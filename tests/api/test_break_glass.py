import asyncio

import httpx
from sqlalchemy import text

from controlplane.domains.audit.types import SYSTEM, Role
from controlplane.domains.health import service as health
from controlplane.domains.identity.service import sessions
from controlplane.domains.oauth.service import devices
from controlplane.domains.oauth.types import CLI
from tests.support.control_plane import ControlPlane
from tests.support.enrolment import Somebody, console_code, enrol, first_start
from tests.support.oauth import DEVICE_GRANT, Party

REASON = "both administrators are ill"


async def open_glass(plane: ControlPlane, first: str, second: str) -> httpx.Response:
    async with plane.client() as client:
        return await client.post("/break-glass/openings", json={"shares": [first, second], "reason": REASON})


async def opened(plane: ControlPlane) -> tuple[Somebody, Somebody, str]:
    ada, grace = await first_start(plane)
    answer = await open_glass(plane, ada.share, grace.share)
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return ada, grace, answer.json()["access_token"]


async def test_both_shares_open_a_session_that_may_do_what_both_offices_may(new_plane: ControlPlane) -> None:
    _, _, token = await opened(new_plane)
    async with new_plane.client(token) as client:
        made = await client.post("/users", json={"name": "joe", "roles": ["operator"]})
        guard = await client.post("/users", json={"name": "sue", "roles": ["security-admin"]})
    assert (made.status_code, guard.status_code) == (201, 201)


async def test_one_share_twice_or_a_wrong_one_opens_nothing_and_spends_nothing(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    for pair in ((ada.share, ada.share), (ada.share, "rdb_0123456789"), ("rdb_x1234567", "rdb_y1234567")):
        assert (await open_glass(new_plane, *pair)).status_code == 401
    assert (await open_glass(new_plane, grace.share, ada.share)).status_code == 201


async def test_two_shares_of_one_office_open_nothing(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    other = await enrol(new_plane, await console_code(new_plane, lost=Role.PLATFORM_ADMIN), "otto")
    assert (await open_glass(new_plane, ada.share, other.share)).status_code == 401


async def test_of_six_who_open_with_the_same_shares_at_once_one_is_in(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    pairs = [(ada.share, grace.share), (grace.share, ada.share)] * 3
    answers = await asyncio.gather(*(open_glass(new_plane, *pair) for pair in pairs))
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401, 401, 401]


async def test_a_share_of_somebody_who_lost_the_office_is_worth_nothing(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    heir = await enrol(new_plane, await console_code(new_plane, lost=Role.SECURITY_ADMIN), "heir")
    async with new_plane.client(heir.access) as client:
        assert (await client.delete("/users/grace/roles/security-admin")).status_code == 200
    assert (await open_glass(new_plane, ada.share, grace.share)).status_code == 401
    assert (await open_glass(new_plane, ada.share, heir.share)).status_code == 201


async def test_a_break_glass_session_ends_after_an_hour_by_itself(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    made = (await open_glass(new_plane, ada.share, grace.share)).json()
    for _ in range(3):
        new_plane.clock.move(1190)
        async with new_plane.client() as client:
            body = {"refresh_token": made["refresh_token"], "client": "break-glass"}
            made = (await client.post("/sign-ins/refresh", json=body)).json()
    async with new_plane.client(made["access_token"]) as client:
        assert (await client.get("/whoami")).status_code == 200
        new_plane.clock.move(31)
        assert (await client.get("/whoami")).status_code == 401
    async with new_plane.client() as client:
        body = {"refresh_token": made["refresh_token"], "client": "break-glass"}
        assert (await client.post("/sign-ins/refresh", json=body)).status_code == 401


async def test_the_hour_buys_no_session_that_outlives_it_by_way_of_a_device(new_plane: ControlPlane) -> None:
    _, _, token = await opened(new_plane)
    cli = Party(new_plane, CLI)
    started = (await cli.post("/oauth/device_authorization", {**cli.fields, "scope": "openid api"})).json()
    async with new_plane.database.transaction() as tx:
        glass = await sessions.authenticate(tx, token, source="browser")
        await devices.decide_device(tx, glass, new_plane.means, user_code=started["user_code"], approve=True)
    fields = {"grant_type": DEVICE_GRANT, "device_code": started["device_code"], **cli.fields}
    answer = await cli.post("/oauth/token", fields)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_everybody_is_told_while_it_is_open_and_the_record_names_reason_and_custodians(
    new_plane: ControlPlane,
) -> None:
    ada, _, token = await opened(new_plane)
    async with new_plane.client(ada.access) as client:
        assert (await client.get("/whoami")).json()["break_glass"]["ends_at"]
    async with new_plane.database.transaction() as tx:
        details = await tx.session.scalar(text("select details from audit_events where event = 'break_glass.opened'"))
    assert details["reason"] == REASON
    assert len(details["custodians"]) == 2
    async with new_plane.client(token) as client:
        await client.delete("/sessions/current")
    async with new_plane.client(ada.access) as client:
        assert (await client.get("/whoami")).json()["break_glass"] is None


async def test_spent_shares_are_missed_until_both_custodians_made_new_ones(new_plane: ControlPlane) -> None:
    ada, grace, _ = await opened(new_plane)
    shares = []
    async with new_plane.client(ada.access) as client:
        assert (await client.get("/break-glass")).json()["missing"] == ["platform-admin", "security-admin"]
    for who in (ada, grace):
        async with new_plane.client(who.access) as client:
            shares.append((await client.post("/break-glass/shares")).json()["share"])
    async with new_plane.client(ada.access) as client:
        assert (await client.get("/break-glass")).json()["missing"] == []
    assert (await open_glass(new_plane, *shares)).status_code == 201


async def test_a_new_share_ends_the_one_from_before(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    async with new_plane.client(ada.access) as client:
        newer = (await client.post("/break-glass/shares")).json()["share"]
    assert (await open_glass(new_plane, ada.share, grace.share)).status_code == 401
    assert (await open_glass(new_plane, newer, grace.share)).status_code == 201


async def test_nobody_but_a_custodian_gets_a_share(new_plane: ControlPlane) -> None:
    _, _, token = await opened(new_plane)
    operator = await new_plane.person(Role.OPERATOR)
    for secret in (token, operator):
        async with new_plane.client(secret) as client:
            assert (await client.post("/break-glass/shares")).status_code in {403, 409}


async def test_an_open_glass_and_spent_shares_are_incidents_until_they_are_mended(new_plane: ControlPlane) -> None:
    ada, grace, token = await opened(new_plane)
    assert await _incidents(new_plane, ada) == {"break-glass-open", "break-glass-unsealed"}
    async with new_plane.client(token) as client:
        await client.delete("/sessions/current")
    assert await _incidents(new_plane, ada) == {"break-glass-unsealed"}
    for who in (ada, grace):
        async with new_plane.client(who.access) as client:
            await client.post("/break-glass/shares")
    assert await _incidents(new_plane, ada) == set()


async def _incidents(plane: ControlPlane, who: Somebody) -> set[str]:
    async with plane.database.transaction() as tx:
        await health.settle_incidents(tx, SYSTEM)
    async with plane.client(who.access) as client:
        return {row["kind"] for row in (await client.get("/incidents?state=open")).json()["items"]}
