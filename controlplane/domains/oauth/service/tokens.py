"""What happens to tokens after they were issued: refresh, introspection, revocation; and services' own sign-in."""

from datetime import UTC, datetime

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.service import tokens as identity
from controlplane.domains.identity.types import Carrier, TokenFacts
from controlplane.domains.oauth import store
from controlplane.domains.oauth.types import Client, Granted, Scope
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import Unauthenticated
from controlplane.kit.tx import Tx


async def spend_assertion(tx: Tx, actor: Actor, *, client: Client, jti: str, expires_at: float) -> bool:
    """Accept a client assertion's `jti`, once; False for the second time."""
    await policy.require(tx, actor, "assertion.spend", client.id)
    until = datetime.fromtimestamp(expires_at, UTC)
    fresh = await store.add_spent_assertion(tx, client.id, sha256_hex(jti.encode()), until)
    if not fresh:
        await audit.record(tx, actor, "assertion.replayed", client.id)
    return fresh


async def grant_service(tx: Tx, actor: Actor, *, client: Client, scopes: frozenset[str], method: str) -> Granted:
    """Sign a service in by itself; it gets an access token and comes back with a new proof for the next one."""
    await policy.require(tx, actor, "service.sign_in", client.id)
    if client.principal_id is None:
        raise Unauthenticated("this client acts for nobody by itself", remedy="redoubt service create NAME")
    issued = await sessions.start_session(
        tx, actor, principal_id=client.principal_id, methods=(method,), client=client.id, source=actor.source,
        strong=False, carrier=Carrier.ACCESS, scopes=tuple(sorted(scopes)),
    )  # fmt: skip
    await audit.record(tx, actor, "service.signed_in", client.id, session=issued.session_id, method=method)
    return Granted(client.principal_id, scopes, issued)


async def refresh(tx: Tx, actor: Actor, *, client: Client, secret: str) -> Granted:
    """Trade a refresh token for the next pair; identity ends the family on reuse, and its refusal keeps that."""
    await policy.require(tx, actor, "token.refresh", client.id)
    issued = await sessions.refresh_session(tx, secret, client=client.id, source=actor.source)
    facts = await identity.get_session_facts(tx, session_id=issued.session_id)
    return Granted(facts.principal_id, facts.scopes, issued)


async def introspect(tx: Tx, actor: Actor, *, client: Client, secret: str) -> TokenFacts | None:
    """Tell about a live token: the client's own, or any if the client may ask of all. None says nothing at all."""
    await policy.require(tx, actor, "token.introspect", client.id)
    facts = await identity.find_token_facts(tx, secret)
    may = facts is not None and (facts.session.client == client.id or Scope.INTROSPECT in client.scopes)
    return facts if may else None


async def revoke(tx: Tx, actor: Actor, *, client: Client, secret: str) -> bool:
    """End the session that a token belongs to, if it is this client's own; an unknown token changes nothing."""
    await policy.require(tx, actor, "token.revoke", client.id)
    facts = await identity.find_token_facts(tx, secret, live=False)
    if facts is None or facts.session.client != client.id:
        return False
    await identity.end_session_by_protocol(tx, actor, session_id=facts.session.session_id, why="revoked by its client")
    await audit.record(tx, actor, "token.revoked", facts.session.session_id, principal=facts.session.principal_id)
    return True
