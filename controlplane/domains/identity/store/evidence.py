"""What a report asks of identity: everybody, over time."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select

from controlplane.domains.identity.tables import Principal, RoleGrant, Session
from controlplane.kit.tx import Tx


async def list_principals(tx: Tx, *, named: str | None, limit: int) -> Sequence[Principal]:
    """Return principals by name; `named` is a name or an id."""
    query = select(Principal).order_by(Principal.name, Principal.id).limit(limit)
    if named is not None:
        query = query.where(or_(Principal.name == named, Principal.id == named))
    return (await tx.session.scalars(query)).all()


async def list_grants(tx: Tx, principal_ids: Sequence[str]) -> Sequence[RoleGrant]:
    query = select(RoleGrant).where(RoleGrant.principal_id.in_(principal_ids))
    return (await tx.session.scalars(query.order_by(RoleGrant.granted_at, RoleGrant.id))).all()


async def list_sessions(
    tx: Tx, principal_ids: Sequence[str], *, began_at: datetime, ended_at: datetime, limit: int
) -> Sequence[Session]:
    """Return sessions that lived at some moment of a period, the newest first."""
    lived = (Session.created_at < ended_at) & (Session.seen_at >= began_at) & Session.principal_id.in_(principal_ids)
    query = select(Session).where(lived).order_by(Session.created_at.desc(), Session.id).limit(limit)
    return (await tx.session.scalars(query)).all()


async def last_seen(tx: Tx, principal_ids: Sequence[str]) -> dict[str, Session]:
    """Return each principal's session that was seen last."""
    query = select(Session).where(Session.principal_id.in_(principal_ids)).distinct(Session.principal_id)
    found = await tx.session.scalars(query.order_by(Session.principal_id, Session.seen_at.desc()))
    return {row.principal_id: row for row in found}
