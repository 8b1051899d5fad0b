"""Queries about tokens that a protocol asks: whose, for which client, for how long."""

from collections.abc import Sequence
from typing import Any  # a row of several columns

from sqlalchemy import Row, select, update

from controlplane.domains.identity.tables import Principal, Session, Token
from controlplane.kit.tx import Tx


async def find_token(tx: Tx, sha256: str, *, live: bool) -> Row[Any] | None:
    """Return (token, session, principal); with `live` only if it would be accepted now."""
    query = (
        select(Token, Session, Principal)
        .join(Session, Session.id == Token.session_id)
        .join(Principal, Principal.id == Session.principal_id)
        .where(Token.sha256 == sha256)
    )
    if live:
        query = query.where(
            Token.used_at.is_(None),
            Token.expires_at > tx.now,
            Session.revoked_at.is_(None),
            Session.idle_expires_at > tx.now,
            Session.absolute_expires_at > tx.now,
            Principal.disabled_at.is_(None),
        )
    return (await tx.session.execute(query)).one_or_none()


async def find_session(tx: Tx, session_id: str) -> tuple[Session, Principal] | None:
    query = select(Session, Principal).join(Principal, Principal.id == Session.principal_id)
    row = (await tx.session.execute(query.where(Session.id == session_id))).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_name(tx: Tx, principal_id: str) -> str | None:
    name: str | None = await tx.session.scalar(select(Principal.name).where(Principal.id == principal_id))
    return name


async def mark_session_revoked(tx: Tx, session_id: str, why: str) -> str | None:
    """End one live session; return whose it was."""
    live = (Session.id == session_id) & Session.revoked_at.is_(None)
    ended = update(Session).where(live).values(revoked_at=tx.now, revoked_why=why).returning(Session.principal_id)
    owner: str | None = await tx.session.scalar(ended)
    return owner


async def mark_client_revoked(tx: Tx, client: str, why: str) -> Sequence[str]:
    """End every live session that a client was given; return them."""
    live = (Session.client == client) & Session.revoked_at.is_(None) & (Session.absolute_expires_at > tx.now)
    ended = update(Session).where(live).values(revoked_at=tx.now, revoked_why=why).returning(Session.id)
    return (await tx.session.scalars(ended)).all()
