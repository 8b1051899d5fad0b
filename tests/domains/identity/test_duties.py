"""Duties that exclude each other, at the database itself: no verb is asked here."""

import asyncio
from itertools import combinations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from controlplane.domains.audit.types import Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.tables import Principal, RoleGrant
from controlplane.domains.identity.types import GRANTABLE
from controlplane.kit.ids import new_id
from tests.support.control_plane import ControlPlane

EXCLUSIVE = [pair for pair in combinations(GRANTABLE, 2) if rules.duty_conflict([pair[0]], pair[1]) is not None]


async def make_principal(plane: ControlPlane) -> str:
    async with plane.database.transaction() as tx:
        row = Principal(id=new_id("user"), kind="user", name=new_id("n"), project="", created_at=tx.now)
        tx.session.add(row)
    return row.id


async def give(plane: ControlPlane, principal_id: str, role: Role, by: str = "somebody") -> bool:
    """Insert a grant with no verb in between; say whether the database took it."""
    try:
        async with plane.database.transaction() as tx:
            tx.session.add(
                RoleGrant(id=new_id("g"), principal_id=principal_id, role=role, granted_by=by, granted_at=tx.now)
            )
    except IntegrityError:
        return False
    return True


def test_an_auditor_holds_nothing_else_and_no_one_is_both_administrators() -> None:
    auditors = {pair for pair in combinations(GRANTABLE, 2) if Role.AUDITOR in pair}
    assert set(EXCLUSIVE) == auditors | {(Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN)}


@pytest.mark.parametrize("pair", EXCLUSIVE, ids=lambda pair: f"{pair[0]} and {pair[1]}")
async def test_the_database_refuses_duties_that_exclude_each_other_in_either_order(
    plane: ControlPlane, pair: tuple[Role, Role]
) -> None:
    for first, second in (pair, pair[::-1]):
        principal_id = await make_principal(plane)
        assert await give(plane, principal_id, first)
        assert not await give(plane, principal_id, second)


@pytest.mark.parametrize("pair", EXCLUSIVE, ids=lambda pair: f"{pair[0]} and {pair[1]}")
async def test_of_six_grants_at_once_that_exclude_each_other_one_kind_stands(
    plane: ControlPlane, pair: tuple[Role, Role]
) -> None:
    principal_id = await make_principal(plane)
    await asyncio.gather(*(give(plane, principal_id, pair[i % 2]) for i in range(6)))
    async with plane.database.transaction() as tx:
        held = (await tx.session.scalars(text("select role from role_grants"))).all()
    assert len(held) == 1


async def test_duties_that_agree_are_held_together(plane: ControlPlane) -> None:
    principal_id = await make_principal(plane)
    assert await give(plane, principal_id, Role.PLATFORM_ADMIN)
    assert await give(plane, principal_id, Role.OPERATOR)


async def test_nobody_grants_himself(plane: ControlPlane) -> None:
    principal_id = await make_principal(plane)
    assert not await give(plane, principal_id, Role.OPERATOR, by=principal_id)


@pytest.mark.parametrize(
    "statement",
    [
        "update role_grants set role = 'platform-admin', revoked_at = now()",
        "update role_grants set granted_by = 'eve', revoked_at = now()",
        "update role_grants set granted_at = now(), revoked_at = now()",
        "delete from role_grants",
    ],
)
async def test_a_grant_never_changes_but_to_end(plane: ControlPlane, statement: str) -> None:
    await give(plane, await make_principal(plane), Role.OPERATOR)
    with pytest.raises(IntegrityError):
        async with plane.database.transaction() as tx:
            await tx.session.execute(text(statement))


async def test_a_grant_that_ended_does_not_begin_again(plane: ControlPlane) -> None:
    await give(plane, await make_principal(plane), Role.OPERATOR)
    async with plane.database.transaction() as tx:
        await tx.session.execute(text("update role_grants set revoked_at = now(), revoked_by = 'x'"))
    with pytest.raises(IntegrityError):
        async with plane.database.transaction() as tx:
            await tx.session.execute(text("update role_grants set revoked_at = null"))
