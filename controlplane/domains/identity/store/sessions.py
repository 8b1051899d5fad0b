"""Queries of sessions and tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, delete, func, select, update

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.tables import Principal, RoleGrant, Session, Token
from controlplane.domains.identity.types import TokenKind
from controlplane.kit.paging import Page
from controlplane.kit.tx import Table, Tx


@dataclass(frozen=True)
class Bearer:
    """What one live token says of its holder."""

    session_id: str
    principal_id: str
    project: str
    methods: tuple[str, ...]
    strong_at: datetime | None
    idle_expires_at: datetime
    roles: frozenset[Role]


_TOKENS, _SESSIONS, _PRINCIPALS, _GRANTS = (
    Table.metadata.tables[table.__tablename__] for table in (Token, Session, Principal, RoleGrant)
)
_ROLES = (
    select(func.array_agg(_GRANTS.c.role))
    .where(_GRANTS.c.principal_id == _PRINCIPALS.c.id, _GRANTS.c.revoked_at.is_(None))
    .scalar_subquery()
)
# Every request asks this: it is put together once, for that took longer than the database needs to answer it.
_LIVE_BEARER = (
    select(
        _SESSIONS.c.id,
        _PRINCIPALS.c.id,
        _PRINCIPALS.c.project,
        _SESSIONS.c.methods,
        _SESSIONS.c.strong_at,
        _SESSIONS.c.idle_expires_at,
        _ROLES,
    )
    .select_from(_TOKENS)
    .join(_SESSIONS, _SESSIONS.c.id == _TOKENS.c.session_id)
    .join(_PRINCIPALS, _PRINCIPALS.c.id == _SESSIONS.c.principal_id)
    .where(
        _TOKENS.c.sha256 == bindparam("sha256"),
        _TOKENS.c.kind == bindparam("kind"),
        _TOKENS.c.used_at.is_(None),
        _TOKENS.c.expires_at > bindparam("now"),
        _SESSIONS.c.scopes.any(bindparam("scope")),
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.idle_expires_at > bindparam("now"),
        _SESSIONS.c.absolute_expires_at > bindparam("now"),
        _PRINCIPALS.c.disabled_at.is_(None),
    )
)


def add(tx: Tx, row: Session | Token) -> None:
    tx.session.add(row)


async def find_bearer(tx: Tx, sha256: str, kind: TokenKind, scope: str) -> Bearer | None:
    """Return whose live token this is: one statement, every condition in it, nothing remembered."""
    asked = {"sha256": sha256, "kind": kind, "scope": scope, "now": tx.now}
    row = (await tx.session.execute(_LIVE_BEARER, asked)).one_or_none()
    if row is None:
        return None
    session_id, principal_id, project, methods, strong_at, idle, roles = row
    held = frozenset(Role(role) for role in roles or ())
    return Bearer(session_id, principal_id, project, tuple(methods), strong_at, idle, held)


async def mark_refresh_used(tx: Tx, sha256: str) -> str | None:
    """Use a live refresh token up and return its session; one conditional UPDATE, so that of two askers one wins."""
    live = (
        (Token.sha256 == sha256)
        & (Token.kind == TokenKind.REFRESH)
        & Token.used_at.is_(None)
        & (Token.expires_at > tx.now)
    )
    used = update(Token).where(live).values(used_at=tx.now).returning(Token.session_id)
    return (await tx.session.scalars(used)).one_or_none()


async def find_used_session(tx: Tx, sha256: str) -> str | None:
    """Return the session of a refresh token that was used before."""
    used = (Token.sha256 == sha256) & (Token.kind == TokenKind.REFRESH) & Token.used_at.is_not(None)
    return (await tx.session.scalars(select(Token.session_id).where(used))).one_or_none()


async def lock_session(tx: Tx, session_id: str) -> Session | None:
    """Return a session that nobody else changes meanwhile."""
    return await tx.session.get(Session, session_id, with_for_update=True, populate_existing=True)


async def lock_principal(tx: Tx, principal_id: str) -> Principal | None:
    return await tx.session.get(Principal, principal_id, with_for_update={"read": True}, populate_existing=True)


async def mark_seen(tx: Tx, session_id: str, idle_expires_at: datetime) -> None:
    await tx.session.execute(
        update(Session).where(Session.id == session_id).values(seen_at=tx.now, idle_expires_at=idle_expires_at)
    )


async def mark_revoked(tx: Tx, *, principal_id: str, why: str) -> int:
    """End every live session of a principal; return how many there were."""
    live = (
        (Session.principal_id == principal_id) & Session.revoked_at.is_(None) & (Session.absolute_expires_at > tx.now)
    )
    ended = update(Session).where(live).values(revoked_at=tx.now, revoked_why=why).returning(Session.id)
    return len((await tx.session.scalars(ended)).all())


async def list_sessions(tx: Tx, page: Page, *, principal_id: str | None) -> Sequence[Session]:
    """Live sessions, of one principal or of all."""
    live = Session.revoked_at.is_(None) & (Session.absolute_expires_at > tx.now) & (Session.idle_expires_at > tx.now)
    query = select(Session).where(live).order_by(Session.id).limit(page.limit)
    if principal_id is not None:
        query = query.where(Session.principal_id == principal_id)
    if page.after is not None:
        query = query.where(Session.id > page.after)
    return (await tx.session.scalars(query)).all()


async def delete_expired_tokens(tx: Tx, before: datetime) -> None:
    """Remove tokens of sessions that ended long ago; a used refresh token is kept until its session is over."""
    over = select(Session.id).where(Session.absolute_expires_at < before)
    await tx.session.execute(delete(Token).where(Token.session_id.in_(over)))
