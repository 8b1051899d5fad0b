"""Passwords, codes and recovery codes over a real database."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim, SecondFactorNeeded, WrongFactor
from controlplane.kit.errors import BadInput, Conflict, Denied, Unavailable
from controlplane.kit.password_hash import BoundedHasher, HashCost
from controlplane.kit.sealed import Sealer
from tests.domains.factors.people import PASSWORD, Person, make_person
from tests.support.control_plane import ControlPlane


async def test_password_and_code_together_are_a_strong_proof(plane: ControlPlane):
    ada = await make_person(plane)

    proof = await ada.prove(otp=ada.code())

    assert (proof.principal_id, proof.methods, proof.strong) == (ada.id, ("password", "totp"), True)


async def test_a_password_alone_is_no_strong_proof(plane: ControlPlane):
    ada = await make_person(plane, totp=False)

    proof = await ada.prove()

    assert (proof.methods, proof.strong) == (("password",), False)


async def test_a_right_password_without_the_second_factor_is_not_enough(plane: ControlPlane):
    ada = await make_person(plane)

    with pytest.raises(SecondFactorNeeded):
        await ada.prove()


async def test_an_unknown_name_is_answered_like_a_wrong_password(plane: ControlPlane):
    ada = await make_person(plane)
    nobody = Nobody(plane, "user_none")

    with pytest.raises(WrongFactor) as known:
        await ada.show_password("wrong, and long enough")
    with pytest.raises(WrongFactor) as unknown:
        await nobody.show_password("wrong, and long enough")

    assert (known.value.detail, known.value.code, known.value.remedy) == (
        unknown.value.detail,
        unknown.value.code,
        unknown.value.remedy,
    )


async def test_an_unknown_name_costs_the_site_a_whole_hash(plane: ControlPlane):
    hasher = CountingHasher(HashCost(memory_kib=8, passes=1))
    plane.means = replace(plane.means, hasher=hasher)

    with pytest.raises(WrongFactor):
        await Nobody(plane, "user_none").show_password("wrong, and long enough")

    assert hasher.verified == 1


async def test_a_password_is_rehashed_at_sign_in_when_its_cost_has_changed(plane: ControlPlane):
    ada = await make_person(plane, totp=False)
    dearer = HashCost(memory_kib=16, passes=2)
    plane.means = replace(plane.means, hasher=BoundedHasher(dearer))

    await ada.show_password()

    assert "m=16,t=2,p=1" in await digest_of(plane, ada.id)
    await ada.show_password()


async def test_a_refused_password_is_refused_with_the_reason(plane: ControlPlane):
    with pytest.raises(BadInput, match="15 are needed"):
        await Person(plane, "user_ada").set_password("too short")


async def test_neither_password_nor_secret_nor_recovery_code_is_in_the_database(plane: ControlPlane):
    ada = await make_person(plane)
    async with plane.database.transaction() as tx:
        codes = await factors.make_recovery_codes(tx, ada.actor, principal_id=ada.id)

    kept = await everything_kept(plane)

    assert not [word for word in (PASSWORD, ada.secret, *codes) if word in kept]


async def test_of_six_who_show_the_same_code_at_once_one_is_let_in(plane: ControlPlane):
    ada = await make_person(plane)
    code = ada.code()
    racers = [ada.elsewhere(f"10.0.1.{n}") for n in range(6)]

    answers = await asyncio.gather(*(racer.show_code(code) for racer in racers), return_exceptions=True)

    assert [answer for answer in answers if answer is None] == [None]


async def test_a_code_that_was_used_does_not_count_again_and_the_next_one_does(plane: ControlPlane):
    ada = await make_person(plane)
    code = ada.code()
    await ada.show_code(code)

    with pytest.raises(WrongFactor):
        await ada.show_code(code)
    plane.clock.move(30)
    await ada.show_code(ada.code())


async def test_the_code_that_confirmed_an_authenticator_is_used(plane: ControlPlane):
    ada = await make_person(plane)
    plane.clock.move(-30)

    with pytest.raises(WrongFactor):
        await ada.show_code(ada.code())


async def test_a_wrong_code_is_answered_with_the_servers_time(plane: ControlPlane):
    ada = await make_person(plane)

    with pytest.raises(WrongFactor, match=r"\d\d:\d\d:\d\d UTC"):
        await ada.show_code("000000")


async def test_until_the_new_authenticator_is_confirmed_the_old_one_counts(plane: ControlPlane):
    ada = await make_person(plane)
    async with plane.database.transaction() as tx:
        await factors.begin_totp(tx, ada.actor, plane.means, principal_id=ada.id, name="ada")

    await ada.show_code(ada.code())

    with pytest.raises(BadInput, match="UTC"):
        async with plane.database.transaction() as tx:
            await factors.confirm_totp(tx, ada.actor, plane.means, principal_id=ada.id, code=ada.code())


async def test_a_sealed_secret_does_not_open_with_another_key(plane: ControlPlane):
    ada = await make_person(plane)
    plane.means = replace(plane.means, sealer=Sealer(b"x" * 32))

    with pytest.raises(Unavailable, match="does not open"):
        await ada.show_code(ada.code())


async def test_a_secret_that_was_moved_to_another_person_does_not_open(plane: ControlPlane):
    ada = await make_person(plane)
    bob = await make_person(plane, name="user_bob")
    async with plane.database.transaction() as tx:
        await tx.session.execute(text("delete from totps where principal_id = 'user_bob'"))
        await tx.session.execute(text("update totps set principal_id = 'user_bob'"))

    with pytest.raises(Unavailable):
        await bob.show_code(ada.code())


async def test_of_six_who_use_the_same_recovery_code_one_is_let_in(plane: ControlPlane):
    ada = await make_person(plane)
    async with plane.database.transaction() as tx:
        codes = await factors.make_recovery_codes(tx, ada.actor, principal_id=ada.id)
    racers = [ada.elsewhere(f"10.0.1.{n}") for n in range(6)]

    answers = await asyncio.gather(*(racer.show_recovery_code(codes[0]) for racer in racers), return_exceptions=True)

    assert answers.count(None) == 1
    assert (await held_by(ada)).recovery_codes_left == 9


async def test_new_recovery_codes_end_the_old_ones(plane: ControlPlane):
    ada = await make_person(plane)
    async with plane.database.transaction() as tx:
        old = await factors.make_recovery_codes(tx, ada.actor, principal_id=ada.id)
    async with plane.database.transaction() as tx:
        await factors.make_recovery_codes(tx, ada.actor, principal_id=ada.id)

    with pytest.raises(WrongFactor):
        await ada.show_recovery_code(old[0])


async def test_nobody_changes_the_factors_of_somebody_else(plane: ControlPlane):
    ada = await make_person(plane)
    eve = Actor("user_eve", Role.PLATFORM_ADMIN)

    with pytest.raises(Denied):
        async with plane.database.transaction() as tx:
            await factors.make_recovery_codes(tx, eve, principal_id=ada.id)
    with pytest.raises(Denied):
        async with plane.database.transaction() as tx:
            await factors.list_factors(tx, Actor("user_eve", Role.OPERATOR), principal_id=ada.id)


async def test_the_last_second_factor_is_not_removed(plane: ControlPlane):
    ada = await make_person(plane)

    with pytest.raises(Conflict):
        async with plane.database.transaction() as tx:
            await factors.remove_totp(tx, ada.actor, principal_id=ada.id)


async def test_a_reset_leaves_nothing_that_signs_in(plane: ControlPlane):
    ada = await make_person(plane)
    root = Actor("user_root", Role.PLATFORM_ADMIN, strong_at=plane.clock.now())
    async with plane.database.transaction() as tx:
        await factors.reset_factors(tx, root, principal_id=ada.id)

    with pytest.raises(WrongFactor):
        await ada.show_password()


async def test_no_more_hashes_wait_than_the_site_can_bear():
    hasher = BoundedHasher(HashCost(memory_kib=32 * 1024, passes=4), at_once=1, waiting=1)

    answers = await asyncio.gather(*(hasher.hash(PASSWORD) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(answer, Unavailable) for answer in answers) == 3
    assert await hasher.hash(PASSWORD)


class CountingHasher(BoundedHasher):
    verified = 0

    def _fits(self, digest: str, password: str) -> bool:
        self.verified += 1
        return super()._fits(digest, password)


class Nobody(Person):
    @property
    def claim(self) -> Claim:
        return Claim(None, "nobody", "10.0.0.2")


async def held_by(person: Person):
    async with person.database.transaction() as tx:
        return await factors.list_factors(tx, person.actor, principal_id=person.id)


async def digest_of(plane: ControlPlane, principal_id: str) -> str:
    async with plane.database.transaction() as tx:
        query = text("select digest from passwords where principal_id = :id")
        return str(await tx.session.scalar(query, {"id": principal_id}))


async def everything_kept(plane: ControlPlane) -> str:
    async with plane.database.transaction() as tx:
        names = (await tx.session.scalars(text("select tablename from pg_tables where schemaname = 'public'"))).all()
        rows = [(await tx.session.scalars(text(f"select t::text from {name} t"))).all() for name in names]
    return "\n".join(row for table in rows for row in table)
