"""Queries of principals and their roles."""

from collections.abc import Sequence

from sqlalchemy import func, select

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.tables import Principal, RoleGrant
from controlplane.domains.identity.types import PrincipalKind
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


def add(tx: Tx, row: Principal | RoleGrant) -> None:
    tx.session.add(row)


async def find_principal(tx: Tx, name: str, kind: PrincipalKind = PrincipalKind.USER) -> Principal | None:
    query = select(Principal).where(Principal.kind == kind, Principal.name == name)
    return (await tx.session.scalars(query)).one_or_none()


async def get_principal(tx: Tx, principal_id: str) -> Principal | None:
    return await tx.session.get(Principal, principal_id)


async def lock_by_name(tx: Tx, name: str, kind: PrincipalKind = PrincipalKind.USER) -> Principal | None:
    """Return a principal whose roles and standing nobody else changes meanwhile."""
    query = select(Principal).where(Principal.kind == kind, Principal.name == name).with_for_update()
    return (await tx.session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def list_principals(tx: Tx, page: Page) -> Sequence[Principal]:
    """Users and services; keys, nodes and agents have lists of their own."""
    kinds = (PrincipalKind.USER, PrincipalKind.SERVICE, PrincipalKind.BREAK_GLASS)
    query = select(Principal).where(Principal.kind.in_(kinds)).order_by(Principal.id).limit(page.limit)
    if page.after is not None:
        query = query.where(Principal.id > page.after)
    return (await tx.session.scalars(query)).all()


async def list_grants(tx: Tx, principal_id: str) -> Sequence[RoleGrant]:
    """Every grant there ever was, oldest first."""
    query = select(RoleGrant).where(RoleGrant.principal_id == principal_id).order_by(RoleGrant.granted_at, RoleGrant.id)
    return (await tx.session.scalars(query)).all()


async def find_live_grant(tx: Tx, principal_id: str, role: Role) -> RoleGrant | None:
    live = (RoleGrant.principal_id == principal_id) & (RoleGrant.role == role) & RoleGrant.revoked_at.is_(None)
    return (await tx.session.scalars(select(RoleGrant).where(live).with_for_update())).one_or_none()


async def list_live_roles(tx: Tx, principal_ids: Sequence[str]) -> dict[str, list[Role]]:
    """Return the live roles of each principal, in the order of their names."""
    live = RoleGrant.principal_id.in_(principal_ids) & RoleGrant.revoked_at.is_(None)
    query = select(RoleGrant.principal_id, RoleGrant.role).where(live).order_by(RoleGrant.role)
    found: dict[str, list[Role]] = {}
    for principal_id, role in (await tx.session.execute(query)).all():
        found.setdefault(principal_id, []).append(Role(role))
    return found


async def count_able(tx: Tx, role: Role, *, but: str = "") -> int:
    """Count enrolled, enabled users with a role, leaving one out."""
    able = (
        (Principal.kind == PrincipalKind.USER)
        & Principal.enrolled_at.is_not(None)
        & Principal.disabled_at.is_(None)
        & (Principal.id != but)
        & (RoleGrant.role == role)
        & RoleGrant.revoked_at.is_(None)
    )
    query = select(func.count()).select_from(RoleGrant).join(Principal, Principal.id == RoleGrant.principal_id)
    return await tx.session.scalar(query.where(able)) or 0


async def lock_duty(tx: Tx, role: Role) -> None:
    """Wait for whoever else takes this role from somebody: of the last two, one stays."""
    await tx.session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"redoubt role {role}"))))
