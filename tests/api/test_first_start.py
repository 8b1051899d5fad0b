"""From nothing to two administrators and a sealed break-glass."""

import asyncio

import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import enrolment
from controlplane.domains.identity.types import CONSOLE
from controlplane.kit.errors import BadInput, Conflict
from tests.support.control_plane import ControlPlane
from tests.support.enrolment import Somebody, begin, console_code, enrol, finish, first_start, sign_in


async def events(plane: ControlPlane, name: str) -> list[str]:
    async with plane.database.transaction() as tx:
        query = text("select resource from audit_events where event = :event order by seq")
        return list((await tx.session.scalars(query, {"event": name})).all())


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/whoami"), ("GET", "/nodes"), ("POST", "/sign-ins"), ("POST", "/break-glass/openings")],
)
async def test_before_the_first_start_is_over_every_verb_says_the_next_step(
    new_plane: ControlPlane, method: str, path: str
) -> None:
    bodies = {
        "/sign-ins": {"name": "ada", "password": "x"},
        "/break-glass/openings": {"shares": ["12345678", "12345678"], "reason": "nobody is there"},
    }
    async with new_plane.client() as client:
        answer = await client.request(method, path, json=bodies.get(path))
    assert (answer.status_code, answer.json()["code"]) == (503, "not_enrolled")
    assert "redoubt enrol" in answer.json()["remedy"]


async def test_the_first_administrator_alone_may_do_nothing_and_is_told_about_the_second(
    new_plane: ControlPlane,
) -> None:
    ada = await enrol(new_plane, await console_code(new_plane), "ada")
    async with new_plane.client(ada.access) as client:
        answer = await client.get("/nodes")
    assert answer.status_code == 503
    assert "second administrator" in answer.json()["detail"]


async def test_two_people_enrol_and_share_the_power_between_them(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    roles = {}
    for who in (ada, grace):
        async with new_plane.client(who.access) as client:
            roles[who.name] = set((await client.get("/whoami")).json()["roles"])
    assert roles == {"ada": {"platform-admin", "operator"}, "grace": {"security-admin"}}
    assert len(ada.recovery_codes) == len(grace.recovery_codes) == 10
    assert ada.share
    assert grace.share
    assert ada.share != grace.share


async def test_of_six_who_show_one_code_at_once_one_begins(new_plane: ControlPlane) -> None:
    code = await console_code(new_plane)
    answers = await asyncio.gather(*(begin(new_plane, code, f"racer-{i}") for i in range(6)))
    first, *others = sorted(answer.status_code for answer in answers)
    assert first == 201
    assert set(others) <= {401, 429}  # six guesses of one moment: some of them may be asked to wait


async def test_of_six_who_finish_with_one_ticket_at_once_one_is_in(new_plane: ControlPlane) -> None:
    begun = (await begin(new_plane, await console_code(new_plane), "ada")).json()
    asks = [finish(new_plane, begun["ticket"], begun["totp_secret"]) for _ in range(6)]
    answers = await asyncio.gather(*asks)
    assert sorted(answer.status_code for answer in answers) == [201, 401, 401, 401, 401, 401]
    assert len(await events(new_plane, "principal.enrolled")) == 1


async def test_a_code_that_was_replaced_no_longer_counts(new_plane: ControlPlane) -> None:
    old = await console_code(new_plane)
    await console_code(new_plane)
    assert (await begin(new_plane, old, "eve")).status_code == 401


async def test_an_enrolment_that_was_begun_ends_when_another_code_is_made(new_plane: ControlPlane) -> None:
    begun = (await begin(new_plane, await console_code(new_plane), "ada")).json()
    await console_code(new_plane)
    assert (await finish(new_plane, begun["ticket"], begun["totp_secret"])).status_code == 401


async def test_a_code_ends_after_an_hour_and_a_ticket_after_a_quarter(new_plane: ControlPlane) -> None:
    code = await console_code(new_plane)
    new_plane.clock.move(3601)
    assert (await begin(new_plane, code, "late")).status_code == 401
    begun = (await begin(new_plane, await console_code(new_plane), "late")).json()
    new_plane.clock.move(901)
    assert (await finish(new_plane, begun["ticket"], begun["totp_secret"])).status_code == 401


async def test_a_password_that_is_refused_spends_no_code(new_plane: ControlPlane) -> None:
    code = await console_code(new_plane)
    assert (await begin(new_plane, code, "ada", "password1234567")).status_code == 422
    assert (await begin(new_plane, code, "ada")).status_code == 201


async def test_a_wrong_first_code_of_the_authenticator_spends_no_ticket(new_plane: ControlPlane) -> None:
    begun = (await begin(new_plane, await console_code(new_plane), "ada")).json()
    async with new_plane.client() as client:
        wrong = await client.post("/enrolments/confirmations", json={"ticket": begun["ticket"], "otp": "000000"})
    assert wrong.status_code == 422
    assert (await finish(new_plane, begun["ticket"], begun["totp_secret"])).status_code == 201


async def test_codes_are_not_guessed_without_end(new_plane: ControlPlane) -> None:
    statuses = [(await begin(new_plane, f"enrol_guess_{i:020}", "eve")).status_code for i in range(22)]
    assert statuses == [401] * 21 + [429]


async def test_nobody_is_there_before_the_enrolment_ends(new_plane: ControlPlane) -> None:
    await begin(new_plane, await console_code(new_plane), "ada")
    async with new_plane.database.transaction() as tx:
        assert (await tx.session.scalars(text("select name from principals"))).all() == []


async def test_a_lost_second_code_is_made_again_at_the_console(new_plane: ControlPlane) -> None:
    ada = await enrol(new_plane, await console_code(new_plane), "ada")
    again = await console_code(new_plane)
    assert (await begin(new_plane, ada.next_code, "eve")).status_code == 401
    grace = await enrol(new_plane, again, "grace")
    assert grace.share


async def test_once_both_are_there_the_console_makes_no_code(new_plane: ControlPlane) -> None:
    await first_start(new_plane)
    with pytest.raises(Conflict):
        await console_code(new_plane)


async def test_lost_administrators_are_replaced_by_a_code_that_is_on_record(new_plane: ControlPlane) -> None:
    await first_start(new_plane)
    with pytest.raises(BadInput):
        async with new_plane.database.transaction() as tx:
            await enrolment.create_console_code(tx, CONSOLE, lost=Role.SECURITY_ADMIN, reason=" ")
    code = await console_code(new_plane, lost=Role.SECURITY_ADMIN)
    heir = await enrol(new_plane, code, "heir")
    async with new_plane.client(heir.access) as client:
        assert (await client.get("/whoami")).json()["roles"] == ["security-admin"]
    assert await events(new_plane, "administrator.declared_lost") == ["security-admin"]


async def test_a_lost_administrator_cannot_be_declared_before_there_was_one(new_plane: ControlPlane) -> None:
    with pytest.raises(Conflict):
        await console_code(new_plane, lost=Role.PLATFORM_ADMIN)


async def test_no_secret_of_an_enrolment_is_in_the_database(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    kept = await _everything(new_plane)
    for who in (ada, grace):
        for secret in (who.share, who.otp_secret, who.access, who.refresh, who.password, *who.recovery_codes):
            assert secret not in kept
            assert secret.partition("_")[2] not in kept or "_" not in secret


async def test_who_enrolled_signs_in_with_password_and_code_and_never_with_the_same_code_again(
    new_plane: ControlPlane,
) -> None:
    ada, _ = await first_start(new_plane)
    first = await sign_in(new_plane, ada)
    assert first.status_code == 201
    new_plane.clock.move(-30)
    assert (await sign_in(new_plane, ada)).status_code == 401


@pytest.mark.parametrize("wrong", [{"password": "something else entirely"}, {"otp": ""}, {"name": "nobody"}])
async def test_a_sign_in_that_lacks_anything_is_refused(new_plane: ControlPlane, wrong: dict[str, str]) -> None:
    ada, _ = await first_start(new_plane)
    assert (await sign_in(new_plane, ada, **wrong)).status_code == 401


async def test_a_recovery_code_is_good_for_one_sign_in(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    lost_phone = {"otp": "", "recovery_code": ada.recovery_codes[0]}
    assert (await sign_in(new_plane, ada, **lost_phone)).status_code == 201
    assert (await sign_in(new_plane, ada, **lost_phone)).status_code == 401


async def test_after_five_minutes_a_dangerous_verb_wants_the_second_factor_again(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    new_plane.clock.move(301)
    body = {"name": "joe", "roles": ["operator"]}
    async with new_plane.client(ada.access) as client:
        refused = await client.post("/users", json=body)
        shown = await client.post("/step-ups", json={"otp": _code(new_plane, ada)})
        done = await client.post("/users", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
    assert (shown.status_code, done.status_code) == (201, 201)


def _code(plane: ControlPlane, who: Somebody) -> str:
    from controlplane.kit.totp import totp_at  # noqa: PLC0415 - only here

    return totp_at(who.otp_secret, plane.clock.now())


async def _everything(plane: ControlPlane) -> str:
    """Return every row of every table as text."""
    async with plane.database.transaction() as tx:
        tables = (await tx.session.scalars(text("select tablename from pg_tables where schemaname = 'public'"))).all()
        rows = [(await tx.session.scalars(text(f"select t::text from {name} t"))).all() for name in tables]
    return "\n".join(str(row) for table in rows for row in table)
