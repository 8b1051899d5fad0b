"""Queries of enrolment codes and of the break-glass."""

from collections.abc import Sequence

from sqlalchemy import exists, func, select, update

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.tables import BreakGlassShare, EnrolmentCode, Principal, RoleGrant, Session
from controlplane.domains.identity.types import PrincipalKind, Purpose
from controlplane.kit.tx import Tx

_FIRST_START = 0x5EA1ED  # any constant: one advisory lock for all that the first start decides


def add(tx: Tx, row: EnrolmentCode | BreakGlassShare | Principal) -> None:
    tx.session.add(row)


async def lock_first_start(tx: Tx) -> None:
    """Wait for whoever else makes or ends an enrolment, so that no site has two first administrators."""
    await tx.session.execute(select(func.pg_advisory_xact_lock(_FIRST_START)))


async def is_sealed(tx: Tx) -> bool:
    """Say whether the break-glass was ever sealed, and so both administrators are there."""
    return bool(await tx.session.scalar(select(exists().where(Principal.kind == PrincipalKind.BREAK_GLASS))))


async def has_enrolled(tx: Tx, role: Role) -> bool:
    """Say whether anybody who holds or held this role ever enrolled."""
    there = exists().where(
        RoleGrant.principal_id == Principal.id, RoleGrant.role == role, Principal.enrolled_at.is_not(None)
    )
    return bool(await tx.session.scalar(select(there)))


async def mark_codes_expired(tx: Tx, purpose: Purpose, principal_id: str) -> None:
    """End what was made before for the same: the code, and an enrolment that was begun and not ended."""
    same = (EnrolmentCode.purpose == purpose) & EnrolmentCode.finished_at.is_(None)
    if principal_id:
        same &= EnrolmentCode.principal_id == principal_id
    await tx.session.execute(
        update(EnrolmentCode).where(same & (EnrolmentCode.expires_at > tx.now)).values(expires_at=tx.now)
    )


async def mark_code_used(tx: Tx, sha256: str, ticket_sha256: str) -> EnrolmentCode | None:
    """Use a live code up and give it a ticket; one conditional UPDATE, so that of two askers one wins."""
    live = (EnrolmentCode.sha256 == sha256) & EnrolmentCode.used_at.is_(None) & (EnrolmentCode.expires_at > tx.now)
    used = update(EnrolmentCode).where(live).values(used_at=tx.now, ticket_sha256=ticket_sha256)
    return (await tx.session.scalars(used.returning(EnrolmentCode))).one_or_none()


async def mark_ticket_used(tx: Tx, ticket_sha256: str) -> EnrolmentCode | None:
    """Use a live ticket up; one conditional UPDATE."""
    live = (
        (EnrolmentCode.ticket_sha256 == ticket_sha256)
        & EnrolmentCode.finished_at.is_(None)
        & (EnrolmentCode.expires_at > tx.now)
    )
    done = update(EnrolmentCode).where(live).values(finished_at=tx.now)
    return (await tx.session.scalars(done.returning(EnrolmentCode))).one_or_none()


async def mark_share_replaced(tx: Tx, holder_id: str) -> None:
    live = BreakGlassShare.used_at.is_(None) & BreakGlassShare.replaced_at.is_(None)
    mine = (BreakGlassShare.holder_id == holder_id) & live
    await tx.session.execute(update(BreakGlassShare).where(mine).values(replaced_at=tx.now))


async def mark_shares_used(tx: Tx, digests: Sequence[str]) -> Sequence[str]:
    """Use live shares up and return their holders; one conditional UPDATE."""
    live = BreakGlassShare.used_at.is_(None) & BreakGlassShare.replaced_at.is_(None)
    mine = BreakGlassShare.sha256.in_(sorted(digests)) & live
    used = update(BreakGlassShare).where(mine).values(used_at=tx.now).returning(BreakGlassShare.holder_id)
    return (await tx.session.scalars(used)).all()


async def list_able_roles(tx: Tx, holder_ids: Sequence[str]) -> dict[str, frozenset[Role]]:
    """Return the live roles of those holders whose accounts stand."""
    able = (
        Principal.id.in_(holder_ids) & Principal.disabled_at.is_(None) & Principal.enrolled_at.is_not(None)
    ) & RoleGrant.revoked_at.is_(None)
    query = select(Principal.id, RoleGrant.role).join(RoleGrant, RoleGrant.principal_id == Principal.id).where(able)
    found: dict[str, frozenset[Role]] = {}
    for holder_id, role in (await tx.session.execute(query)).all():
        found[holder_id] = found.get(holder_id, frozenset()) | {Role(role)}
    return found


async def has_shares(tx: Tx) -> bool:
    """Say whether a share was ever made."""
    return bool(await tx.session.scalar(select(exists().where(BreakGlassShare.holder_id != ""))))


async def list_share_holders(tx: Tx) -> Sequence[str]:
    live = BreakGlassShare.used_at.is_(None) & BreakGlassShare.replaced_at.is_(None)
    return (await tx.session.scalars(select(BreakGlassShare.holder_id).where(live))).all()


async def find_glass(tx: Tx) -> Principal | None:
    query = select(Principal).where(Principal.kind == PrincipalKind.BREAK_GLASS)
    return (await tx.session.scalars(query)).one_or_none()


async def list_open_glass(tx: Tx) -> Sequence[Session]:
    """Sessions of the break-glass that are open now."""
    live = Session.revoked_at.is_(None) & (Session.absolute_expires_at > tx.now)
    query = select(Session).join(Principal, Principal.id == Session.principal_id)
    mine = query.where(Principal.kind == PrincipalKind.BREAK_GLASS, live).order_by(Session.created_at)
    return (await tx.session.scalars(mine)).all()
