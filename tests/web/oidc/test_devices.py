"""The device flow (RFC 8628): pending, too fast, denied, expired, replayed, guessed, and another client's."""

import asyncio
from dataclasses import replace

import pytest

from controlplane.domains.audit.types import NEWCOMER, Role
from controlplane.domains.identity.service import sessions
from controlplane.domains.oauth.service import devices
from controlplane.domains.oauth.types import CLI, DeviceStart
from controlplane.kit.errors import Denied, NotFound, RedoubtError
from tests.support.control_plane import ControlPlane
from tests.support.oauth import DEVICE_GRANT, Party, events, native_party, service_party


async def begin(device: Party, **fields: str) -> dict[str, str]:
    answer = await device.post("/oauth/device_authorization", {**device.fields, "scope": "openid api", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def poll(device: Party, started: dict[str, str]) -> dict[str, str]:
    fields = {"grant_type": DEVICE_GRANT, "device_code": started["device_code"], **device.fields}
    return (await device.post("/oauth/token", fields)).json()


async def decide(plane: ControlPlane, access: str, user_code: str, *, approve: bool = True) -> None:
    async with plane.database.transaction() as tx:
        actor = await sessions.authenticate(tx, access, source="browser")
        await devices.decide_device(tx, actor, plane.means, user_code=user_code, approve=approve)


@pytest.fixture
def cli(plane: ControlPlane) -> Party:
    return Party(plane, CLI)


async def test_a_device_signs_in_as_the_one_who_approved_it(plane: ControlPlane, cli: Party) -> None:
    person = await plane.signed_in(Role.OPERATOR, name="olga")
    started = await begin(cli, device_host="node7")
    assert "verification_uri_complete" not in started  # an address that holds the code approves itself
    assert (await poll(cli, started))["error"] == "authorization_pending"

    await decide(plane, person.access, started["user_code"].lower().replace("-", " "))
    bought = await poll(cli, started)

    async with plane.client(bought["access_token"]) as client:
        me = (await client.get("/whoami")).json()
    async with plane.client(person.access) as client:
        assert me["id"] == (await client.get("/whoami")).json()["id"]
    assert {"device.begun", "device.approved", "device.redeemed"} <= set(await events(plane))


async def test_a_device_code_that_was_redeemed_is_worth_nothing_again(plane: ControlPlane, cli: Party) -> None:
    person, started = await plane.signed_in(Role.OPERATOR), await begin(cli)
    await decide(plane, person.access, started["user_code"])
    assert "access_token" in await poll(cli, started)

    assert (await poll(cli, started))["error"] == "invalid_grant"


async def test_of_six_polls_of_an_approved_code_at_once_one_is_served(plane: ControlPlane, cli: Party) -> None:
    person, started = await plane.signed_in(Role.OPERATOR), await begin(cli)
    await decide(plane, person.access, started["user_code"])

    bodies = await asyncio.gather(*(poll(cli, started) for _ in range(6)))

    assert sum("access_token" in body for body in bodies) == 1
    assert sum(body.get("error") == "invalid_grant" for body in bodies) == 5


async def test_a_device_that_polls_too_fast_is_slowed_down_and_has_to_wait_longer(
    plane: ControlPlane, cli: Party
) -> None:
    started = await begin(cli)
    assert (await poll(cli, started))["error"] == "authorization_pending"
    assert (await poll(cli, started))["error"] == "slow_down"
    plane.clock.move(6)
    assert (await poll(cli, started))["error"] == "slow_down"  # the interval is ten seconds now
    plane.clock.move(16)
    assert (await poll(cli, started))["error"] == "authorization_pending"


async def test_a_denied_device_hears_so_and_stays_denied(plane: ControlPlane, cli: Party) -> None:
    person, started = await plane.signed_in(Role.OPERATOR), await begin(cli)
    await decide(plane, person.access, started["user_code"], approve=False)

    assert (await poll(cli, started))["error"] == "access_denied"
    with pytest.raises(NotFound):
        await decide(plane, person.access, started["user_code"])
    assert (await poll(cli, started))["error"] == "access_denied"


async def test_a_device_code_ends_after_ten_minutes_approved_or_not(plane: ControlPlane, cli: Party) -> None:
    person = await plane.signed_in(Role.OPERATOR)
    waiting, approved = await begin(cli), await begin(cli)
    await decide(plane, person.access, approved["user_code"])
    plane.clock.move(601)

    assert (await poll(cli, waiting))["error"] == "expired_token"
    assert (await poll(cli, approved))["error"] == "expired_token"


async def test_a_device_code_of_another_client_is_answered_like_one_that_never_was(
    plane: ControlPlane, cli: Party
) -> None:
    tool, person, started = await native_party(plane), await plane.signed_in(Role.OPERATOR), await begin(cli)
    await decide(plane, person.access, started["user_code"])

    foreign = await poll(tool, started)
    made_up = await poll(tool, {"device_code": "rdd_never"})

    assert foreign == made_up
    assert foreign["error"] == "invalid_grant"
    assert "access_token" in await poll(cli, started)


async def test_of_six_who_decide_at_once_one_is_heard(plane: ControlPlane, cli: Party) -> None:
    person, started = await plane.signed_in(Role.OPERATOR), await begin(cli)
    asks = [decide(plane, person.access, started["user_code"], approve=i % 2 == 0) for i in range(6)]

    found = await asyncio.gather(*asks, return_exceptions=True)

    assert sum(one is None for one in found) == 1
    assert sum(isinstance(one, RedoubtError) for one in found) == 5  # too late, or a guess too many at once


async def test_approving_wants_a_second_factor_shown_lately_and_denying_does_not(
    plane: ControlPlane, cli: Party
) -> None:
    person, started = await plane.signed_in(Role.OPERATOR, strong=False), await begin(cli)

    with pytest.raises(Denied):
        await decide(plane, person.access, started["user_code"])
    await decide(plane, person.access, started["user_code"], approve=False)


async def test_a_service_may_not_ask_for_a_device(plane: ControlPlane) -> None:
    service = await service_party(plane)
    fields = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": service.assertion(),
    }
    answer = await service.post("/oauth/device_authorization", fields)
    assert answer.json()["error"] == "unauthorized_client"


async def test_a_host_that_is_no_hosts_name_is_not_shown_to_anybody(plane: ControlPlane, cli: Party) -> None:
    person, started = await plane.signed_in(Role.OPERATOR), await begin(cli, device_host="<b>your own laptop</b>")
    async with plane.database.transaction() as tx:
        actor = await sessions.authenticate(tx, person.access, source="browser")
        request = await devices.get_device_request(tx, actor, plane.means, user_code=started["user_code"])

    assert (request.host, request.source, request.client_name) == ("", "10.0.0.9", CLI.name)


async def test_a_source_with_twenty_codes_that_wait_gets_no_more_until_they_are_over(
    plane: ControlPlane, cli: Party
) -> None:
    for _ in range(19):
        await begin(cli)
    person, decided = await plane.signed_in(Role.OPERATOR), await begin(cli)
    fields = {**cli.fields, "scope": "openid api"}
    before = await events(plane)

    refused = await cli.post("/oauth/device_authorization", fields)

    assert (refused.status_code, refused.json()["error"]) == (400, "slow_down")
    assert await events(plane) == before
    await decide(plane, person.access, decided["user_code"], approve=False)
    await begin(cli)
    assert (await cli.post("/oauth/device_authorization", fields)).json()["error"] == "slow_down"
    async with plane.database.transaction() as tx:
        elsewhere = replace(NEWCOMER, source="10.0.0.10")
        begun = await devices.begin_device(tx, elsewhere, client=CLI, scopes=frozenset({"openid"}), host="")
    assert isinstance(begun, DeviceStart)
    plane.clock.move(601)
    await begin(cli)
