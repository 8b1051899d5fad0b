"""One count over every factor; it outlives the request that was refused."""

import asyncio

import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim, Factor, TooManyGuesses, WrongFactor
from controlplane.kit.errors import Unauthenticated, Unavailable
from tests.domains.factors.people import Person, make_person
from tests.support.control_plane import ControlPlane


async def guess_wrong(person: Person, times: int, *, source: str = "") -> None:
    for n in range(times):
        with pytest.raises(WrongFactor):
            await person.elsewhere(source or f"10.1.0.{n}").show_password("wrong, and long enough")


async def test_the_fourth_wrong_guess_makes_the_next_one_wait(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 4)

    with pytest.raises(TooManyGuesses) as refused:
        await ada.show_password()

    assert refused.value.wait_s in (1, 2)


async def test_a_right_password_in_the_wait_is_not_let_in_and_afterwards_is(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 4)

    with pytest.raises(TooManyGuesses):
        await ada.show_password()
    plane.clock.move(2)
    assert await ada.show_password() == ada.id


async def test_guesses_in_the_wait_do_not_make_it_longer(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 4)
    for _ in range(20):
        with pytest.raises(TooManyGuesses):
            await ada.show_password("wrong, and long enough")

    plane.clock.move(2)
    assert await ada.show_password() == ada.id


async def test_wrong_codes_count_though_the_password_was_right_each_time(plane: ControlPlane):
    ada = await make_person(plane)
    for n in range(4):
        with pytest.raises(WrongFactor):
            await ada.elsewhere(f"10.1.0.{n}").prove(otp="000000")

    with pytest.raises(TooManyGuesses):
        await ada.prove(otp=ada.code())


async def test_one_count_covers_all_factors(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 2)
    with pytest.raises(WrongFactor):
        await ada.show_code("000000")
    with pytest.raises(WrongFactor):
        await ada.show_recovery_code("aaaa-aaaa-aaaa-aaaa")

    with pytest.raises(TooManyGuesses):
        await ada.show_code(ada.code())


async def test_a_whole_sign_in_starts_the_count_again(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 3)
    await ada.prove(otp=ada.code())

    await guess_wrong(ada, 3)
    plane.clock.move(30)
    await ada.prove(otp=ada.code())


async def test_twenty_names_tried_from_one_source_make_that_source_wait(plane: ControlPlane):
    ada = await make_person(plane)
    for n in range(21):
        with pytest.raises(WrongFactor):
            await prove_as(plane, Claim(None, f"name-{n}", "10.9.9.9"))

    with pytest.raises(TooManyGuesses):
        await ada.elsewhere("10.9.9.9").show_password()
    assert await ada.show_password() == ada.id


async def test_a_name_that_nobody_has_waits_like_one_that_somebody_has(plane: ControlPlane):
    for n in range(4):
        with pytest.raises(WrongFactor):
            await prove_as(plane, Claim(None, "eve", f"10.1.0.{n}"))

    with pytest.raises(TooManyGuesses):
        await prove_as(plane, Claim(None, "EVE", "10.1.0.9"))


async def test_of_many_guesses_at_once_no_more_are_checked_than_one_after_the_other(plane: ControlPlane):
    ada = await make_person(plane)
    guesses = [ada.elsewhere(f"10.2.0.{n}").show_password("wrong, and long enough") for n in range(12)]

    answers = await asyncio.gather(*guesses, return_exceptions=True)

    checked = sum(isinstance(answer, WrongFactor) for answer in answers)
    assert 1 <= checked <= 4
    assert all(isinstance(answer, WrongFactor | TooManyGuesses | Unavailable) for answer in answers)


async def test_any_other_code_that_can_be_guessed_counts_too(plane: ControlPlane):
    ada = await make_person(plane)
    for _ in range(4):
        with pytest.raises(Unauthenticated):
            await guess_user_code(plane, ada, right=False)

    with pytest.raises(TooManyGuesses):
        await guess_user_code(plane, ada, right=True)


async def test_a_wrong_guess_is_on_record_with_its_factor_and_without_what_was_typed(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 1)

    async with plane.database.transaction() as tx:
        query = text("select resource, details::text from audit_events where event = 'factor.refused'")
        rows = (await tx.session.execute(query)).all()

    assert [tuple(row) for row in rows] == [(ada.id, '{"factor": "password"}')]


async def test_counts_that_no_rule_remembers_are_forgotten(plane: ControlPlane):
    ada = await make_person(plane)
    await guess_wrong(ada, 2)
    plane.clock.move(3 * 24 * 3600)
    await ada.elsewhere("10.5.5.5").show_password()

    async with plane.database.transaction() as tx:
        left = (await tx.session.scalars(text("select subject from guess_counts order by 1"))).all()

    assert set(left) == {f"account:{ada.id}", "source:10.5.5.5"}


async def prove_as(plane: ControlPlane, claim: Claim) -> None:
    async with plane.database.transaction() as tx:
        await factors.prove(tx, NEWCOMER, plane.means, claim, password="wrong, and long enough")


async def guess_user_code(plane: ControlPlane, person: Person, *, right: bool) -> None:
    async with (
        plane.database.transaction() as tx,
        factors.guessing(tx, person.actor, plane.means, person.claim, Factor.USER_CODE),
    ):
        if not right:
            raise Unauthenticated("no such code", remedy="type it again")
