"""Users and their roles: who may be there, what they may do, who said so."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.factors import service as factors
from controlplane.domains.identity import rules
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.store import enrolment
from controlplane.domains.identity.store import people as store
from controlplane.domains.identity.tables import Principal, RoleGrant
from controlplane.domains.identity.types import PrincipalKind, Purpose
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.errors import BadInput, Conflict, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


@dataclass(frozen=True)
class PersonView:
    """A principal and the roles that it holds now."""

    principal: Principal
    roles: tuple[Role, ...]


async def create_user(tx: Tx, actor: Actor, *, name: str, project: str, roles: tuple[Role, ...]) -> PersonView:
    """Make an account that nobody signs in to yet; its enrolment code lets one person set its factors."""
    await policy.require(tx, actor, "user.create", Resource("user", name, project=project))
    if await store.find_principal(tx, name) is not None:
        raise Conflict(
            f"there is a user {name} already", remedy=f"redoubt user show {name}; names are never used again"
        )
    if not roles or rules.is_staff(roles) == bool(project):
        raise BadInput(
            "a user has roles: of the site, or with a project of its tenant's own",
            remedy="--role ROLE, and --project PROJECT with tenant-admin or tenant-user alone",
        )
    row = Principal(
        id=new_id("user"), kind=PrincipalKind.USER, name=name, project=project, created_at=tx.now, enrolled_at=None,
        disabled_at=None,
    )  # fmt: skip
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "user.created", row.id, name=name, project=project)
    for role in roles:
        await grant_role(tx, actor, name=name, role=role)
    return PersonView(row, roles)


async def disable_user(tx: Tx, actor: Actor, *, name: str) -> PersonView:
    """End an account for good: its sessions end at once, its roles and its history stay on record."""
    for role in (Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN):
        await store.lock_duty(tx, role)
    row = await store.lock_by_name(tx, name)
    held = (await store.list_live_roles(tx, [row.id])).get(row.id, []) if row else []
    if Role.SECURITY_ADMIN in held:
        await policy.require(tx, actor, "security_user.disable", Resource("user", name))
    else:
        await policy.require(tx, actor, "user.disable", Resource("user", name))
    if row is None:
        raise _no_user(name)
    if row.disabled_at is None:
        for role in held:
            await _refuse_if_last(tx, role, row)
        row.disabled_at = tx.now
        await audit.record(tx, actor, "user.disabled", row.id, name=name)
        await sessions.end_sessions_of(tx, actor, principal_id=row.id, why="account disabled")
    return PersonView(row, tuple(held))


async def list_users(tx: Tx, actor: Actor, *, page: Page) -> list[PersonView]:
    await policy.require(tx, actor, "user.read", "site")
    rows = await store.list_principals(tx, page)
    roles = await store.list_live_roles(tx, [row.id for row in rows])
    return [PersonView(row, tuple(roles.get(row.id, ()))) for row in rows]


async def get_user(tx: Tx, actor: Actor, *, name: str) -> PersonView:
    await policy.require(tx, actor, "user.read", Resource("user", name))
    row = await store.find_principal(tx, name)
    if row is None:
        raise _no_user(name)
    return PersonView(row, tuple((await store.list_live_roles(tx, [row.id])).get(row.id, ())))


async def find_user_id(tx: Tx, name: str) -> str | None:
    """Return the id of a user who may sign in; for the doors, which must not tell whether there is one."""
    row = await store.find_principal(tx, name)
    return row.id if row is not None and row.enrolled_at is not None and row.disabled_at is None else None


async def name_of(tx: Tx, principal_id: str) -> str:
    """Return a principal's name; "" for one that is not there."""
    row = await store.get_principal(tx, principal_id)
    return row.name if row is not None else ""


async def grant_role(tx: Tx, actor: Actor, *, name: str, role: Role) -> RoleGrant:
    """Give a user a role. Nobody grants himself, and a security administrator is made by one.

    Who becomes one enrols anew with a code of hers: a platform administrator may know what opened the account so far.
    """
    if role == Role.SECURITY_ADMIN:  # a platform administrator gives every role but the one that watches him
        await policy.require(tx, actor, "security_role.grant", Resource("role", role))
        await enrolment.lock_first_start(tx)  # before the account, as who finishes an enrolment does
    else:
        await policy.require(tx, actor, "role.grant", Resource("role", role))
    row = await _lock(tx, name)
    if row.id == actor.id:
        raise Refused("nobody grants himself a role", remedy="ask another administrator", code="separation_of_duties")
    if (live := await store.find_live_grant(tx, row.id, role)) is not None:
        return live
    held = (await store.list_live_roles(tx, [row.id])).get(row.id, [])
    _refuse_mixture(row, held, role)
    if role == Role.SECURITY_ADMIN:
        await enrolment.mark_codes_expired(tx, Purpose.USER, row.id)
        await shut_until_enrolled(tx, actor, row)
    grant = RoleGrant(
        id=new_id("grant"), principal_id=row.id, role=role, granted_by=actor.id, granted_at=tx.now, revoked_by=None,
        revoked_at=None,
    )  # fmt: skip
    store.add(tx, grant)
    await tx.session.flush()
    await audit.record(tx, actor, "role.granted", row.id, role=role, name=name)
    return grant


async def revoke_role(tx: Tx, actor: Actor, *, name: str, role: Role) -> RoleGrant:
    """Take a role away; it counts from the next request on. The last administrator of a kind stays."""
    if role == Role.SECURITY_ADMIN:  # a platform administrator gives every role but the one that watches him
        await policy.require(tx, actor, "security_role.revoke", Resource("role", role))
    else:
        await policy.require(tx, actor, "role.revoke", Resource("role", role))
    await store.lock_duty(tx, role)
    row = await _lock(tx, name)
    grant = await store.find_live_grant(tx, row.id, role)
    if grant is None:
        raise NotFound(f"{name} does not hold {role}", remedy=f"redoubt role list {name}")
    await _refuse_if_last(tx, role, row)
    grant.revoked_at, grant.revoked_by = tx.now, actor.id
    await audit.record(tx, actor, "role.revoked", row.id, role=role, name=name)
    return grant


async def shut_until_enrolled(tx: Tx, actor: Actor, row: Principal) -> None:
    """End what somebody proves himself with and his sessions; a password alone opens nothing until he enrols anew."""
    if row.enrolled_at is None:
        return
    await factors.reset_factors(tx, actor, principal_id=row.id)
    await sessions.end_sessions_of(tx, actor, principal_id=row.id, why="enrolled anew")
    row.enrolled_at = None


async def list_grants(tx: Tx, actor: Actor, *, name: str) -> Sequence[RoleGrant]:
    """Return every role that a user ever held, who gave it and who took it."""
    await policy.require(tx, actor, "user.read", Resource("user", name))
    row = await store.find_principal(tx, name)
    if row is None:
        raise _no_user(name)
    return await store.list_grants(tx, row.id)


def _refuse_mixture(row: Principal, held: Sequence[Role], role: Role) -> None:
    if (other := rules.duty_conflict(held, role)) is not None:
        raise Refused(
            f"{role} and {other} do not go together", remedy=f"redoubt role revoke {row.name} {other}, or another user",
            code="separation_of_duties",
        )  # fmt: skip
    if bool(row.project) == rules.is_staff([role]):
        where = f"project {row.project}" if row.project else "the site itself"
        raise Refused(
            f"{row.name} belongs to {where}, and {role} does not", remedy="make another user for it",
            code="separation_of_duties",
        )  # fmt: skip


async def _refuse_if_last(tx: Tx, role: Role, row: Principal) -> None:
    guarded = role in {Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN}
    if guarded and row.enrolled_at is not None and not await store.count_able(tx, role, but=row.id):
        raise Conflict(
            f"{row.name} is the last {role}", remedy=f"make another first: redoubt user create NAME --role {role}"
        )


async def _lock(tx: Tx, name: str) -> Principal:
    row = await store.lock_by_name(tx, name)
    if row is None:
        raise _no_user(name)
    return row


def _no_user(name: str) -> NotFound:
    return NotFound(f"no user {name}", remedy="redoubt user list")
