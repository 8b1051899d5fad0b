"""What the authorization server asks about tokens, and the ends that a protocol, not a person, brings about."""

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.store import tokens as store
from controlplane.domains.identity.tables import Principal, Session
from controlplane.domains.identity.types import SessionFacts, TokenFacts
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import NotFound
from controlplane.kit.tx import Tx


async def find_token_facts(tx: Tx, secret: str, *, live: bool = True) -> TokenFacts | None:
    """Return what is known of a token; with `live` None unless it would be accepted now."""
    found = await store.find_token(tx, sha256_hex(secret.encode()), live=live)
    if found is None:
        return None
    token, session, principal = found
    return TokenFacts(_facts(session, principal), token.created_at, token.expires_at)


async def get_session_facts(tx: Tx, *, session_id: str) -> SessionFacts:
    found = await store.find_session(tx, session_id)
    if found is None:
        raise NotFound(f"no session {session_id}", remedy="redoubt session list")
    return _facts(*found)


async def get_principal_name(tx: Tx, *, principal_id: str) -> str:
    return await store.find_name(tx, principal_id) or ""


async def end_session_by_protocol(tx: Tx, actor: Actor, *, session_id: str, why: str) -> bool:
    """End a session because its client gave it back, or because a secret of it was used twice."""
    await policy.require(tx, actor, "session.end_by_protocol", session_id)
    principal_id = await store.mark_session_revoked(tx, session_id, why)
    if principal_id is None:
        return False
    await audit.record(tx, actor, "session.ended", session_id, principal=principal_id, why=why)
    return True


async def end_sessions_of_client(tx: Tx, actor: Actor, *, client: str, why: str) -> int:
    """End every session that a client was given."""
    await policy.require(tx, actor, "session.revoke", client)
    ended = await store.mark_client_revoked(tx, client, why)
    if ended:
        await audit.record(tx, actor, "session.all_ended", client, count=len(ended), why=why)
    return len(ended)


def _facts(session: Session, principal: Principal) -> SessionFacts:
    return SessionFacts(
        session.id,
        session.client,
        principal.id,
        principal.name,
        frozenset(session.scopes),
        tuple(session.methods),
        session.created_at,
    )
