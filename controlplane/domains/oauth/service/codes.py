"""Authorization codes: what a browser carries from the consent page to the client."""

from collections.abc import Iterable

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import sessions, tokens
from controlplane.domains.oauth import rules, store
from controlplane.domains.oauth.tables import AuthorizationCode
from controlplane.domains.oauth.types import Client, CodeAsk, CodeFacts, Granted, Refusal, SignIn
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.tx import Tx

CODE_PREFIX = "rdo"


async def grant_code(tx: Tx, actor: Actor, *, client: Client, ask: CodeAsk, sign_in: SignIn) -> str:
    """Let the client have what the person has just allowed, or had allowed before; the code lives for a minute."""
    await policy.require(tx, actor, "authorization.grant", Resource("authorization", actor.id))
    code = new_token(CODE_PREFIX)
    row = AuthorizationCode(
        sha256=sha256_hex(code.encode()),
        client_id=client.id,
        principal_id=actor.id,
        redirect_uri=ask.redirect_uri,
        scopes=sorted(ask.scopes),
        nonce=ask.nonce,
        code_challenge=ask.code_challenge,
        methods=list(sign_in.methods),
        signed_in_at=sign_in.at,
        created_at=tx.now,
        expires_at=tx.now + rules.CODE_LIFETIME,
        used_at=None,
        session_id=None,
    )
    store.add(tx, row)
    await audit.record(tx, actor, "authorization.granted", client.id, scopes=sorted(ask.scopes))
    return code


async def find_code(tx: Tx, *, client: Client, code: str) -> CodeFacts | None:
    """Return what is known of a code of this client, used or not."""
    row = await store.find_code(tx, sha256_hex(code.encode()))
    if row is None or row.client_id != client.id:
        return None
    return CodeFacts(row.principal_id, row.redirect_uri, frozenset(row.scopes), row.code_challenge)


async def redeem_code(
    tx: Tx, actor: Actor, *, client: Client, code: str, redirect_uri: str | None, verifier: str | None
) -> Granted | Refusal:
    """Trade a code for tokens, once. A second try ends what the first one bought, and that must be committed."""
    await policy.require(tx, actor, "authorization.redeem", client.id)
    digest = sha256_hex(code.encode())
    row = await store.find_code(tx, digest)
    if row is None or row.client_id != client.id or row.redirect_uri != redirect_uri:
        return Refusal.INVALID
    if not rules.proves(verifier, row.code_challenge):
        return Refusal.INVALID
    if not await store.mark_code_used(tx, digest):
        await _end_what_it_bought(tx, actor, digest)
        return Refusal.INVALID
    issued = await sessions.start_session(
        tx, actor, principal_id=row.principal_id, methods=tuple(row.methods), client=client.id, source=actor.source,
        strong=False, scopes=tuple(row.scopes),
    )  # fmt: skip
    row.session_id = issued.session_id
    await audit.record(tx, actor, "authorization.redeemed", issued.session_id, principal=row.principal_id)
    sign_in = SignIn(tuple(row.methods), row.signed_in_at)
    return Granted(row.principal_id, frozenset(row.scopes), issued, sign_in, row.nonce)


async def has_consented(tx: Tx, actor: Actor, *, client: Client, scopes: Iterable[str]) -> bool:
    """Say whether the person has let this client have all of that before."""
    await policy.require(tx, actor, "authorization.grant", Resource("authorization", actor.id))
    given = await store.find_consent(tx, actor.id, client.id)
    return given is not None and set(scopes) <= set(given.scopes)


async def keep_consent(tx: Tx, actor: Actor, *, client: Client, scopes: Iterable[str]) -> None:
    """Remember that the person has let this client have that, so that they are asked once."""
    await policy.require(tx, actor, "authorization.grant", Resource("authorization", actor.id))
    await store.add_consent(tx, actor.id, client.id, sorted(scopes))
    await audit.record(tx, actor, "authorization.consented", client.id, scopes=sorted(scopes))


async def refuse_consent(tx: Tx, actor: Actor, *, client: Client) -> None:
    """Note that the person said no."""
    await policy.require(tx, actor, "authorization.grant", Resource("authorization", actor.id))
    await audit.record(tx, actor, "authorization.refused", client.id)


async def _end_what_it_bought(tx: Tx, actor: Actor, digest: str) -> None:
    """A used code is shown again: somebody else holds a copy, so the first buyer must not go on either."""
    row = await store.find_code(tx, digest)
    if row is None or row.session_id is None:
        return
    await tokens.end_session_by_protocol(tx, actor, session_id=row.session_id, why="its code was used twice")
    await audit.record(tx, actor, "authorization.reuse_detected", row.session_id, principal=row.principal_id)
