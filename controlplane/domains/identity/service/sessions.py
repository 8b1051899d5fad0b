"""Sessions: one sign-in is one family of opaque tokens. What is revoked ends at once, because nothing is remembered."""

from collections.abc import Sequence
from datetime import datetime

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER, Actor, Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.store import sessions as store
from controlplane.domains.identity.tables import Session, Token
from controlplane.domains.identity.types import API_SCOPE, TOKEN_PREFIX, Carrier, IssuedTokens, PrincipalKind, TokenKind
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import Denied, NotFound, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

SIGN_IN = "sign in again: redoubt sign-in"


async def start_session(
    tx: Tx,
    actor: Actor,
    *,
    principal_id: str,
    methods: tuple[str, ...],
    client: str,
    source: str,
    strong: bool,
    carrier: Carrier = Carrier.PAIR,
    scopes: tuple[str, ...] = (API_SCOPE,),
    lasts_until: datetime | None = None,
) -> IssuedTokens:
    """Begin a session for a principal whose factors the caller has checked; its secrets are in the answer only."""
    await policy.require(tx, actor, "session.start", principal_id)
    principal = await store.lock_principal(tx, principal_id)
    if principal is None or principal.disabled_at is not None or principal.enrolled_at is None:
        raise Unauthenticated("this account does not sign in", remedy="ask a platform administrator: redoubt user list")
    if principal.kind == PrincipalKind.BREAK_GLASS and lasts_until is None:  # or its hour would buy eight more
        raise Unauthenticated("the break-glass opens by two shares alone", remedy="redoubt break-glass open")
    latest = tx.now + rules.SESSION_LIFETIME
    ends_at = min(lasts_until or latest, latest)
    row = Session(
        id=new_id("ses"), principal_id=principal_id, client=client, scopes=list(scopes), methods=list(methods),
        source=source, created_at=tx.now, seen_at=tx.now, strong_at=tx.now if strong else None, revoked_at=None,
        revoked_why="",
        idle_expires_at=min(tx.now + rules.IDLE_LIFETIME, ends_at), absolute_expires_at=ends_at,
    )  # fmt: skip
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(
        tx,
        actor,
        "session.started",
        row.id,
        principal=principal_id,
        client=client,
        methods=list(methods),
        source=source,
    )
    return _issue(tx, row, carrier)


async def refresh_session(tx: Tx, secret: str, *, client: str, source: str) -> IssuedTokens:
    """Trade a refresh token for the next pair. A second use ends the whole family, and that is kept and recorded."""
    await policy.require(tx, NEWCOMER, "session.refresh", "session")
    digest = sha256_hex(secret.encode())
    session_id = await store.mark_refresh_used(tx, digest)
    if session_id is None:
        await _revoke_family_if_reused(tx, digest, source)
        raise _not_live("the refresh token is unknown, used, revoked or expired")
    row = await store.lock_session(tx, session_id)
    if row is None or not _is_live(tx, row) or row.client != client:
        raise _not_live("the session is over, or the token belongs to another client")
    principal = await store.lock_principal(tx, row.principal_id)
    if principal is None or principal.disabled_at is not None:
        raise _not_live("the account is disabled")
    row.seen_at, row.idle_expires_at = tx.now, min(tx.now + rules.IDLE_LIFETIME, row.absolute_expires_at)
    await audit.record(tx, _holder(row), "session.refreshed", row.id, source=source)
    return _issue(tx, row, Carrier.PAIR)


async def authenticate(
    tx: Tx, secret: str, *, source: str, kind: TokenKind = TokenKind.ACCESS, scope: str = API_SCOPE
) -> Actor:
    """Return whose live token this is; raises Unauthenticated, the same for every cause. One indexed look-up."""
    found = await store.find_bearer(tx, sha256_hex(secret.encode()), kind, scope)
    if found is None:
        raise _not_live("the token is unknown, revoked or expired")
    if not found.roles:
        raise Denied(
            "this account holds no role", remedy="a platform administrator grants one: redoubt role grant NAME ROLE",
            code="no_role",
        )  # fmt: skip
    if kind == TokenKind.COOKIE and rules.needs_touch(tx.now, found.idle_expires_at):
        await store.mark_seen(tx, found.session_id, tx.now + rules.IDLE_LIFETIME)
    # two custodians stand behind every request of a break-glass session, and it has no factor to show again
    strong_at = tx.now if Role.BREAK_GLASS in found.roles else found.strong_at
    return Actor(
        found.principal_id,
        rules.first_role(found.roles),
        roles=found.roles,
        project=found.project,
        session=found.session_id,
        method="+".join(found.methods),
        source=source,
        strong_at=strong_at,
    )


async def mark_strong(tx: Tx, actor: Actor, *, methods: tuple[str, ...]) -> datetime:
    """Note that the actor showed a second factor now, which the caller has checked; dangerous verbs ask for that."""
    await policy.require(tx, actor, "session.step_up", Resource("session", actor.id))
    row = await store.lock_session(tx, actor.session)
    if row is None or not _is_live(tx, row):
        raise _not_live("the session is over")
    row.strong_at, row.methods = tx.now, sorted({*row.methods, *methods})
    await audit.record(tx, actor, "session.stepped_up", row.id, methods=list(methods))
    return tx.now


async def end_session(tx: Tx, actor: Actor, *, session_id: str | None = None) -> Session:
    """End the actor's own session, or another that the actor may end. Ending it again changes nothing."""
    wanted = session_id or actor.session
    row = await store.lock_session(tx, wanted)
    own = row is not None and row.principal_id == actor.id
    if own:
        await policy.require(tx, actor, "session.end", Resource("session", actor.id))
    else:
        await policy.require(tx, actor, "session.revoke", Resource("session", wanted))
    if row is None:
        raise NotFound(f"no session {wanted}", remedy="redoubt session list")
    if row.revoked_at is None:
        row.revoked_at, row.revoked_why = tx.now, "signed out" if own else f"ended by {actor.id}"
        await audit.record(tx, actor, "session.ended", row.id, principal=row.principal_id)
    return row


async def end_sessions_of(tx: Tx, actor: Actor, *, principal_id: str, why: str) -> int:
    """End every session of a principal: its factors or its standing changed."""
    if principal_id == actor.id:
        await policy.require(tx, actor, "session.end", Resource("session", actor.id))
    else:
        await policy.require(tx, actor, "session.revoke", Resource("session", principal_id))
    ended = await store.mark_revoked(tx, principal_id=principal_id, why=why)
    if ended:
        await audit.record(tx, actor, "session.all_ended", principal_id, count=ended, why=why)
    return ended


async def list_sessions(tx: Tx, actor: Actor, *, page: Page, every: bool = False) -> Sequence[Session]:
    """Return live sessions: the actor's own, or everybody's."""
    if every:
        await policy.require(tx, actor, "session.read_all", "site")
    else:
        await policy.require(tx, actor, "session.read", Resource("session", actor.id))
    return await store.list_sessions(tx, page, principal_id=None if every else actor.id)


async def forget_old_tokens(tx: Tx, actor: Actor) -> None:
    """Remove the digests of sessions that have been over for a day; the sessions themselves stay on record."""
    await policy.require(tx, actor, "session.sweep", "site")
    await store.delete_expired_tokens(tx, tx.now - rules.KEPT_AFTER)


async def _revoke_family_if_reused(tx: Tx, digest: str, source: str) -> None:
    """A used refresh token is shown again: whoever holds the other copy must not go on either."""
    session_id = await store.find_used_session(tx, digest)
    row = await store.lock_session(tx, session_id) if session_id else None
    if row is None or not _is_live(tx, row):
        return
    row.revoked_at, row.revoked_why = tx.now, "a refresh token was used twice"
    await audit.record(tx, _holder(row), "session.reuse_detected", row.id, principal=row.principal_id, source=source)
    raise Unauthenticated(
        "this refresh token was used before, so its session is ended", remedy=SIGN_IN, code="token_reused",
        keeps_changes=True,
    )  # fmt: skip


def _issue(tx: Tx, row: Session, carrier: Carrier) -> IssuedTokens:
    """Make the secrets of one carrier; a pair's access token is the first to end."""
    short = min(tx.now + rules.ACCESS_LIFETIME, row.absolute_expires_at)
    made = {
        Carrier.PAIR: {TokenKind.ACCESS: short, TokenKind.REFRESH: row.idle_expires_at},
        Carrier.COOKIE: {TokenKind.COOKIE: row.absolute_expires_at},
        Carrier.ACCESS: {TokenKind.ACCESS: short},
    }[carrier]
    secrets = {kind: _add_token(tx, row.id, kind, expires_at) for kind, expires_at in made.items()}
    return IssuedTokens(
        row.id,
        secrets.get(TokenKind.ACCESS, ""),
        secrets.get(TokenKind.REFRESH, ""),
        secrets.get(TokenKind.COOKIE, ""),
        min(made.values()),
        row.absolute_expires_at,
    )


def _add_token(tx: Tx, session_id: str, kind: TokenKind, expires_at: datetime) -> str:
    secret = new_token(TOKEN_PREFIX[kind])
    digest = sha256_hex(secret.encode())
    store.add(tx, Token(sha256=digest, session_id=session_id, kind=kind, created_at=tx.now, expires_at=expires_at))
    return secret


def _is_live(tx: Tx, row: Session) -> bool:
    return row.revoked_at is None and tx.now < min(row.idle_expires_at, row.absolute_expires_at)


def _holder(row: Session) -> Actor:
    """A refresh is asked with a secret and no role; the event names whose session it was."""
    return Actor(row.principal_id, NEWCOMER.role, session=row.id, method="refresh", source=row.source)


def _not_live(why: str) -> Unauthenticated:
    return Unauthenticated(why, remedy=SIGN_IN)
