"""Passkeys, against a software authenticator that lies in every way that WebAuthn knows."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.rules.passkeys import relying_party
from controlplane.domains.factors.types import Proof, WrongFactor
from controlplane.kit.errors import BadInput, Conflict, Refused
from tests.domains.factors.people import Person, make_person
from tests.support.authenticator import Authenticator
from tests.support.control_plane import ControlPlane
from tests.support.means import ORIGIN


async def test_a_passkey_that_was_made_here_signs_in_alone(plane: ControlPlane):
    ada = await make_person(plane)
    device = await add_device(ada)

    proof = await show(plane, device)

    assert (proof.principal_id, proof.methods, proof.strong) == (ada.id, ("passkey",), True)


async def test_a_passkey_is_a_second_factor_too(plane: ControlPlane):
    ada = await make_person(plane)
    device = await add_device(ada)

    assert (await show(plane, device, ada.id)).principal_id == ada.id


LIES: dict[str, Callable[[Authenticator], None]] = {
    "another origin": lambda device: setattr(device, "origin", "https://evil.example:8443"),
    "the origin without its port": lambda device: setattr(device, "origin", "https://console.testsite.example"),
    "plain http": lambda device: setattr(device, "origin", "http://console.testsite.example:8443"),
    "another party": lambda device: setattr(device, "rp_id", "evil.example"),
    "no user verification": lambda device: setattr(device, "verifies_user", False),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_lie_at_sign_in_is_refused(plane: ControlPlane, lie: Callable[[Authenticator], None]):
    device = await add_device(await make_person(plane))
    lie(device)

    with pytest.raises(WrongFactor):
        await show(plane, device)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_lie_at_registration_is_refused(plane: ControlPlane, lie: Callable[[Authenticator], None]):
    ada = await make_person(plane)
    device = Authenticator(ORIGIN)
    lie(device)

    with pytest.raises(BadInput):
        await add_device(ada, device)


async def test_an_answer_of_a_key_that_does_not_count_is_good_once(plane: ControlPlane):
    device = await add_device(await make_person(plane), Authenticator(ORIGIN, counts=False))
    answer = device.get(await ask(plane))
    await tell(plane, answer)

    with pytest.raises(WrongFactor):
        await tell(plane, answer)


async def test_a_challenge_is_used_up_by_a_refused_answer(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    options = await ask(plane)
    device.verifies_user = False
    with pytest.raises(WrongFactor):
        await tell(plane, device.get(options))
    device.verifies_user = True

    with pytest.raises(WrongFactor):
        await tell(plane, device.get(options))


async def test_a_challenge_of_our_own_making_up_is_refused(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    options = json.loads(await ask(plane)) | {"challenge": "bm90IG91cnM"}

    with pytest.raises(WrongFactor):
        await tell(plane, device.get(json.dumps(options)))


async def test_a_challenge_ends_after_five_minutes(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    answer = device.get(await ask(plane))
    plane.clock.move(301)

    with pytest.raises(WrongFactor):
        await tell(plane, answer)


async def test_a_challenge_of_a_registration_is_none_of_a_sign_in(plane: ControlPlane):
    ada = await make_person(plane)
    device = await add_device(ada)
    begun = json.loads(await begin(ada))

    with pytest.raises(WrongFactor):
        await tell(plane, device.get(json.dumps({"challenge": begun["challenge"], "rpId": begun["rp"]["id"]})))


async def test_a_counter_that_goes_back_is_refused_and_on_record(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    device.counter = 10
    await show(plane, device)
    device.counter = 4

    with pytest.raises(WrongFactor):
        await show(plane, device)
    assert await events(plane, "passkey.copy_suspected") == 1


async def test_a_key_of_somebody_else_does_not_answer_for_me(plane: ControlPlane):
    ada = await make_person(plane)
    eve = await make_person(plane, name="user_eve")
    await add_device(ada)
    device = await add_device(eve)

    with pytest.raises(WrongFactor):
        await show(plane, device, ada.id)


async def test_a_key_with_a_forged_owner_is_refused(plane: ControlPlane):
    ada = await make_person(plane)
    eve = await make_person(plane, name="user_eve")
    device = await add_device(eve)
    device.user_handle = ada.id.encode()

    with pytest.raises(WrongFactor):
        await show(plane, device)


async def test_a_signature_of_another_key_is_refused(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    device.key = Authenticator(ORIGIN).key

    with pytest.raises(WrongFactor):
        await show(plane, device)


async def test_a_key_that_nobody_registered_is_refused_in_the_same_words(plane: ControlPlane):
    device = await add_device(await make_person(plane))
    device.key = Authenticator(ORIGIN).key

    with pytest.raises(WrongFactor) as known:
        await show(plane, device)
    with pytest.raises(WrongFactor) as unknown:
        await show(plane, Authenticator(ORIGIN))
    assert known.value.detail == unknown.value.detail


async def test_one_key_is_not_registered_twice_not_even_by_another_person(plane: ControlPlane):
    ada = await make_person(plane)
    eve = await make_person(plane, name="user_eve")
    device = await add_device(ada)

    with pytest.raises(Conflict):
        await add_device(eve, device)


async def test_a_registration_is_finished_by_who_began_it(plane: ControlPlane):
    ada = await make_person(plane)
    eve = await make_person(plane, name="user_eve")
    answer = Authenticator(ORIGIN).create(await begin(ada))

    with pytest.raises(BadInput, match="not asked for"):
        await finish(eve, answer)


@pytest.mark.parametrize("answer", ["", "{}", "[]", "null", '{"id":"x"}', "x" * 30_000, '{"id": "é"}'])
async def test_what_no_browser_sends_is_bad_input(plane: ControlPlane, answer: str):
    with pytest.raises(BadInput):
        await tell(plane, answer)
    with pytest.raises(BadInput):
        await finish(await make_person(plane), answer)


@pytest.mark.parametrize("cut", [1, 20, 37, 55, 100])
async def test_a_cut_registration_is_bad_input(plane: ControlPlane, cut: int):
    ada = await make_person(plane)
    made = json.loads(Authenticator(ORIGIN).create(await begin(ada)))
    made["response"]["attestationObject"] = made["response"]["attestationObject"][:-cut]

    with pytest.raises(BadInput):
        await finish(ada, json.dumps(made))


@pytest.mark.parametrize("host", ["10.77.0.10", "127.0.0.1", "[::1]", "ctl1", "ctl_1.example"])
async def test_a_site_without_a_name_refuses_passkeys_and_names_the_way_out(plane: ControlPlane, host: str):
    plane.means = replace(plane.means, origin=f"https://{host}:8443")

    with pytest.raises(Refused) as refused:
        await ask(plane)

    assert "TOTP" in refused.value.remedy
    assert "console_name" in refused.value.remedy


def test_localhost_may_have_passkeys():
    assert relying_party("http://localhost:8080").id == "localhost"


async def test_a_passkey_can_be_removed_while_an_authenticator_app_is_left(plane: ControlPlane):
    ada = await make_person(plane)
    device = await add_device(ada)
    async with plane.database.transaction() as tx:
        key = (await factors.list_factors(tx, ada.actor, principal_id=ada.id)).passkeys[0]
        await factors.remove_passkey(tx, ada.actor, principal_id=ada.id, passkey_id=key.id)

    with pytest.raises(WrongFactor):
        await show(plane, device)


async def begin(person: Person) -> str:
    async with person.database.transaction() as tx:
        return await factors.begin_passkey(tx, person.actor, person.plane.means, principal_id=person.id, name="ada")


async def finish(person: Person, answer: str) -> None:
    async with person.database.transaction() as tx:
        await factors.finish_passkey(
            tx, person.actor, person.plane.means, principal_id=person.id, name="blue key", answer=answer
        )


async def add_device(person: Person, device: Authenticator | None = None) -> Authenticator:
    made = device or Authenticator(ORIGIN)
    await finish(person, made.create(await begin(person)))
    return made


async def ask(plane: ControlPlane, principal_id: str = "") -> str:
    async with plane.database.transaction() as tx:
        return await factors.ask_passkey(tx, NEWCOMER, plane.means, principal_id=principal_id)


async def tell(plane: ControlPlane, answer: str, principal_id: str = "") -> Proof:
    async with plane.database.transaction() as tx:
        return await factors.verify_passkey(
            tx, NEWCOMER, plane.means, source="10.0.0.1", answer=answer, principal_id=principal_id
        )


async def show(plane: ControlPlane, device: Authenticator, principal_id: str = "") -> Proof:
    return await tell(plane, device.get(await ask(plane, principal_id)), principal_id)


async def events(plane: ControlPlane, event: str) -> int:
    async with plane.database.transaction() as tx:
        query = text("select count(*) from audit_events where event = :event")
        return int(await tx.session.scalar(query, {"event": event}))
