"""Users and roles: who may make whom what, and when it counts."""

import asyncio

import httpx
import pytest

from controlplane.domains.audit.types import Role
from controlplane.kit.errors import Conflict
from tests.support.control_plane import ControlPlane
from tests.support.enrolment import PASSWORD, begin, console_code, enrol, finish, first_start, sign_in


async def ask(plane: ControlPlane, token: str, method: str, path: str, body: dict | None = None) -> httpx.Response:
    async with plane.client(token) as client:
        return await client.request(method, path, json=body)


async def roles_of(plane: ControlPlane, token: str, name: str) -> list[str]:
    return list((await ask(plane, token, "GET", f"/users/{name}")).json()["roles"])


async def test_a_user_enrols_with_the_code_that_an_administrator_made(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    made = (await ask(new_plane, ada.access, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    joe = await enrol(new_plane, made["enrolment"]["code"])
    assert (joe.name, joe.share, joe.next_code) == ("joe", "", "")
    assert (await sign_in(new_plane, joe)).status_code == 201


async def test_a_role_counts_and_ends_at_the_next_request(plane: ControlPlane, admin: str) -> None:
    token = await plane.person(Role.DATA_STEWARD, name="joe")
    assert (await ask(plane, token, "GET", "/leases")).status_code == 403
    await ask(plane, admin, "POST", "/users/joe/roles", {"role": "operator"})
    assert (await ask(plane, token, "GET", "/leases")).status_code == 200
    await ask(plane, admin, "DELETE", "/users/joe/roles/operator")
    assert (await ask(plane, token, "GET", "/leases")).status_code == 403


async def test_a_disabled_user_is_refused_at_the_next_request_and_never_signs_in(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    made = (await ask(new_plane, ada.access, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    joe = await enrol(new_plane, made["enrolment"]["code"])
    assert (await ask(new_plane, ada.access, "DELETE", "/users/joe")).status_code == 200
    assert (await ask(new_plane, joe.access, "GET", "/whoami")).status_code == 401
    assert (await sign_in(new_plane, joe)).status_code == 401


@pytest.mark.parametrize(("held", "wanted"), [("auditor", "operator"), ("operator", "auditor")])
async def test_duties_that_exclude_each_other_are_refused_with_the_reason(
    plane: ControlPlane, admin: str, held: str, wanted: str
) -> None:
    await ask(plane, admin, "POST", "/users", {"name": "joe", "roles": [held]})
    answer = await ask(plane, admin, "POST", "/users/joe/roles", {"role": wanted})
    assert (answer.status_code, answer.json()["code"]) == (409, "separation_of_duties")
    assert await roles_of(plane, admin, "joe") == [held]


async def test_nobody_grants_himself_a_role(plane: ControlPlane, admin: str) -> None:
    answer = await ask(plane, admin, "POST", "/users/ada/roles", {"role": "data-steward"})
    assert (answer.status_code, answer.json()["code"]) == (409, "separation_of_duties")


async def test_a_platform_administrator_neither_makes_nor_unmakes_who_watches_him(
    plane: ControlPlane, admin: str
) -> None:
    await plane.person(Role.SECURITY_ADMIN, name="grace")
    await plane.person(Role.SECURITY_ADMIN, name="gwen")
    tries = [
        ("POST", "/users", {"name": "puppet", "roles": ["security-admin"]}),
        ("DELETE", "/users/grace/roles/security-admin", None),
        ("DELETE", "/users/grace", None),
        ("POST", "/users/grace/enrolments", None),
    ]
    answers = [await ask(plane, admin, *one) for one in tries]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert (await ask(plane, admin, "GET", "/users/puppet")).status_code == 404


async def test_the_last_administrator_of_a_kind_stays(plane: ControlPlane, admin: str) -> None:
    other = await plane.person(Role.PLATFORM_ADMIN, name="otto")
    assert (await ask(plane, other, "DELETE", "/users/ada")).status_code == 200
    assert (await ask(plane, other, "DELETE", "/users/otto")).status_code == 409
    assert (await ask(plane, other, "DELETE", "/users/otto/roles/platform-admin")).status_code == 409


async def test_of_the_last_two_who_put_each_other_out_at_once_one_stays(plane: ControlPlane, admin: str) -> None:
    other = await plane.person(Role.PLATFORM_ADMIN, name="otto")
    answers = await asyncio.gather(
        ask(plane, admin, "DELETE", "/users/otto/roles/platform-admin"),
        ask(plane, other, "DELETE", "/users/ada/roles/platform-admin"),
    )
    first, second = sorted(answer.status_code for answer in answers)
    assert first == 200
    assert second in {403, 409}


async def test_every_role_that_was_ever_held_stays_on_record_with_who_gave_it(plane: ControlPlane, admin: str) -> None:
    await ask(plane, admin, "POST", "/users", {"name": "joe", "roles": ["operator"]})
    await ask(plane, admin, "DELETE", "/users/joe/roles/operator")
    me = (await ask(plane, admin, "GET", "/whoami")).json()["id"]
    (grant,) = (await ask(plane, admin, "GET", "/users/joe/roles")).json()["items"]
    assert (grant["role"], grant["granted_by"], grant["revoked_by"]) == ("operator", me, me)


async def test_a_project_goes_with_a_tenants_roles_and_with_no_office_of_the_site(
    plane: ControlPlane, admin: str
) -> None:
    wrong = [
        {"name": "joe", "project": "blue", "roles": ["operator"]},
        {"name": "joe", "project": "", "roles": ["tenant-user"]},
        {"name": "joe", "project": "blue", "roles": ["tenant-user", "auditor"]},
    ]
    assert [(await ask(plane, admin, "POST", "/users", body)).status_code for body in wrong] == [422, 422, 422]
    right = {"name": "eva", "project": "blue", "roles": ["tenant-admin", "tenant-user"]}
    assert (await ask(plane, admin, "POST", "/users", right)).status_code == 201
    await ask(plane, admin, "POST", "/users", {"name": "joe", "roles": ["operator"]})
    for name, role in (("eva", "operator"), ("joe", "tenant-user")):
        assert (await ask(plane, admin, "POST", f"/users/{name}/roles", {"role": role})).status_code == 409


async def test_lost_factors_are_replaced_by_a_new_code_and_what_was_before_ends(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    made = (await ask(new_plane, ada.access, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    joe = await enrol(new_plane, made["enrolment"]["code"])
    code = (await ask(new_plane, ada.access, "POST", "/users/joe/enrolments")).json()["code"]
    assert (await ask(new_plane, joe.access, "GET", "/whoami")).status_code == 401
    assert (await sign_in(new_plane, joe)).status_code == 401
    new_plane.clock.move(3)  # the wrong attempt before made the next one wait
    again = await enrol(new_plane, code)
    assert again.otp_secret != joe.otp_secret
    assert (await ask(new_plane, again.access, "GET", "/whoami")).json()["name"] == "joe"


async def test_a_new_password_opens_nothing_until_the_second_factor_is_set_too(new_plane: ControlPlane) -> None:
    ada, _ = await first_start(new_plane)
    made = (await ask(new_plane, ada.access, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    await enrol(new_plane, made["enrolment"]["code"])
    code = (await ask(new_plane, ada.access, "POST", "/users/joe/enrolments")).json()["code"]
    begun = (await begin(new_plane, code, None)).json()
    async with new_plane.client() as client:
        alone = await client.post("/sign-ins", json={"name": "joe", "password": PASSWORD})
    assert alone.status_code == 401
    assert (await ask(new_plane, ada.access, "GET", "/users/joe")).json()["enrolled_at"] is None
    done = await finish(new_plane, begun["ticket"], begun["totp_secret"])
    assert done.status_code == 201
    assert (await ask(new_plane, ada.access, "GET", "/users/joe")).json()["enrolled_at"]


async def test_an_administrator_who_is_being_reset_counts_for_nothing_and_unseals_nothing(
    plane: ControlPlane, admin: str
) -> None:
    await plane.person(Role.PLATFORM_ADMIN, name="otto")
    await plane.person(Role.SECURITY_ADMIN, name="grace")
    guard = await plane.person(Role.SECURITY_ADMIN, name="gwen")
    assert (await ask(plane, admin, "POST", "/users/otto/enrolments")).status_code == 201
    assert (await ask(plane, guard, "DELETE", "/users/ada")).status_code == 403
    assert (await ask(plane, admin, "GET", "/whoami")).status_code == 200
    third = await plane.person(Role.PLATFORM_ADMIN, name="thea")
    assert (await ask(plane, third, "DELETE", "/users/ada")).status_code == 200
    assert (await ask(plane, third, "DELETE", "/users/thea/roles/platform-admin")).status_code == 409
    with pytest.raises(Conflict):
        await console_code(plane)


async def test_a_security_administrator_resets_another_and_nobody_else(plane: ControlPlane, admin: str) -> None:
    guard = await plane.person(Role.SECURITY_ADMIN, name="gwen")
    grace = await plane.person(Role.SECURITY_ADMIN, name="grace")
    assert (await ask(plane, admin, "POST", "/users/grace/enrolments")).status_code == 403
    assert (await ask(plane, guard, "POST", "/users/ada/enrolments")).status_code == 403
    assert (await ask(plane, grace, "GET", "/whoami")).status_code == 200
    made = await ask(plane, guard, "POST", "/users/grace/enrolments")
    assert made.status_code == 201
    assert (await ask(plane, grace, "GET", "/whoami")).status_code == 401
    again = await enrol(plane, made.json()["code"])
    assert (await ask(plane, again.access, "GET", "/whoami")).json()["roles"] == ["security-admin"]


async def test_what_opened_an_account_ends_when_it_becomes_a_security_administrators(new_plane: ControlPlane) -> None:
    ada, grace = await first_start(new_plane)
    made = (await ask(new_plane, ada.access, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    joe = await enrol(new_plane, made["enrolment"]["code"])
    granted = await ask(new_plane, grace.access, "POST", "/users/joe/roles", {"role": "security-admin"})
    assert granted.status_code == 201
    assert (await ask(new_plane, joe.access, "GET", "/whoami")).status_code == 401
    assert (await sign_in(new_plane, joe)).status_code == 401
    new_plane.clock.move(3)  # the wrong attempt before made the next one wait
    assert (await ask(new_plane, ada.access, "POST", "/users/joe/enrolments")).status_code == 403
    code = (await ask(new_plane, grace.access, "POST", "/users/joe/enrolments")).json()["code"]
    again = await enrol(new_plane, code)
    me = (await ask(new_plane, again.access, "GET", "/whoami")).json()
    assert set(me["roles"]) == {"operator", "security-admin"}


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_platform_administrators_code_lets_nobody_in_as_security_administrator(
    plane: ControlPlane, admin: str, *, is_begun: bool
) -> None:
    guard = await plane.person(Role.SECURITY_ADMIN, name="gwen")
    made = (await ask(plane, admin, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    code = made["enrolment"]["code"]
    begun = (await begin(plane, code, None)).json() if is_begun else None
    assert (await ask(plane, guard, "POST", "/users/joe/roles", {"role": "security-admin"})).status_code == 201
    answer = await (finish(plane, begun["ticket"], begun["totp_secret"]) if begun else begin(plane, code, None))
    assert answer.status_code == 401


async def test_of_six_who_show_one_users_code_at_once_one_begins(plane: ControlPlane, admin: str) -> None:
    made = (await ask(plane, admin, "POST", "/users", {"name": "joe", "roles": ["operator"]})).json()
    answers = await asyncio.gather(*(begin(plane, made["enrolment"]["code"], None) for _ in range(6)))
    first, *others = sorted(answer.status_code for answer in answers)
    assert first == 201
    assert set(others) <= {401, 429}  # six guesses of one moment: some of them may be asked to wait


async def test_a_refused_creation_leaves_neither_user_nor_code(plane: ControlPlane, admin: str) -> None:
    body = {"name": "joe", "roles": ["operator", "auditor"]}
    assert (await ask(plane, admin, "POST", "/users", body)).status_code == 409
    assert (await ask(plane, admin, "GET", "/users/joe")).status_code == 404
