"""The authorization endpoint without its pages: check the request, choose the next step, answer the client."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any  # a grant of Authlib's has no type
from urllib.parse import urlencode

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import OAuth2Error
from fastapi import Request
from sqlalchemy.util import greenlet_spawn

from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import tokens as identity
from controlplane.domains.oauth import rules
from controlplane.domains.oauth.service import codes
from controlplane.domains.oauth.types import AskError, Client, ClientKind, SignIn, Standing, Step, Wish
from controlplane.kit.errors import BadInput
from controlplane.kit.tx import Tx
from controlplane.web.oidc.answer import Answer
from controlplane.web.oidc.grants import Grantor
from controlplane.web.oidc.logout import read_hint
from controlplane.web.oidc.request import OidcRequest, read_pairs
from controlplane.web.oidc.run import issuer_of
from controlplane.web.oidc.server import OidcServer

AFTER = "signed_in_after"  # ours: this browser was sent to sign in at that time
HERE = "here"  # ours: this request was sent by a page of this site, so its cookie came along
OWN = frozenset({AFTER, HERE})


@dataclass
class Ask:
    """A checked authorization request. `refused` is what the client is told; nothing else is then valid."""

    server: OidcServer
    request: OidcRequest
    grant: Any = None
    refused: Answer | None = None

    @property
    def client(self) -> Client:
        client: Client = self.request.client.client
        return client

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(str(self.request.scope).split())

    @property
    def redirect_uri(self) -> str:
        return str(self.grant.redirect_uri)

    def parameter(self, name: str) -> str:
        return self.request.payload.data.get(name, "")


async def check_ask(http: Request, tx: Tx, encoded: str) -> Ask:
    """Check an authorization request. Raises BadInput where nobody may be sent back: the address is not known."""
    request = OidcRequest(tx, http, read_pairs(encoded))
    ask = Ask(OidcServer(request, issuer_of(http)), request)
    error = await greenlet_spawn(_check, ask)
    if error is None:
        return ask
    answer = ask.server.handle_error_response(request, error)
    if answer.location is None:
        raise BadInput(
            f"this sign-in was not asked for rightly: {error.description or error.error}",
            remedy="go back to the application and start again; if it stays so, tell who runs it",
            code="bad_authorization_request",
        )
    ask.refused = answer
    return ask


async def next_step(ask: Ask, actor: Actor | None) -> tuple[Step | AskError, SignIn | None]:
    """Choose what comes next for whoever sits there."""
    sign_in = None if actor is None else await _sign_in_of(ask.request.tx, actor)
    wish = _wish_of(ask)
    if wish is None:
        return AskError.INVALID, sign_in
    standing = Standing()
    if actor is not None and sign_in is not None:
        known = ask.client.kind != ClientKind.NATIVE  # who holds a loopback port is never certain (RFC 8252, 8.6)
        consented = known and await codes.has_consented(ask.request.tx, actor, client=ask.client, scopes=ask.scopes)
        standing = Standing(sign_in.at, await _is_hinted(ask, actor), consented)
    return rules.next_step(ask.request.tx.now, wish, standing), sign_in


async def grant(ask: Ask, actor: Actor, sign_in: SignIn) -> str:
    """Return the client's address with a code."""
    server = ask.server
    made = await greenlet_spawn(server.create_authorization_response, ask.request, Grantor(actor, sign_in), ask.grant)
    return _with_issuer(ask, made)


def refuse(ask: Ask, error: str) -> str:
    """Return the client's address with an error and its state."""
    told = [("error", error)]
    state = ask.parameter("state")
    where = add_params_to_uri(ask.redirect_uri, [*told, *([("state", state)] if state else [])])
    return _with_issuer(ask, Answer(302, "", [("Location", where)]))


def refusal_of(ask: Ask) -> str:
    """Return the client's address with what was wrong about its request."""
    if ask.refused is None:
        raise TypeError("this request was not refused")
    return _with_issuer(ask, ask.refused)


def continuation(ask: Ask) -> str:
    """Return the path that a browser comes back to after signing in; what asked for the sign-in is done by then."""
    kept = {name: value for name, value in ask.request.payload.data.items() if name not in {"max_age", *OWN}}
    prompts = " ".join(sorted(_words(kept.pop("prompt", "")) - {"login", "select_account"}))
    now = int(ask.request.tx.now.timestamp())
    return path_of({**kept, **({"prompt": prompts} if prompts else {}), AFTER: str(now), HERE: "1"})


def path_of(parameters: dict[str, str]) -> str:
    return f"/oauth/authorize?{urlencode(parameters)}"


def _check(ask: Ask) -> OAuth2Error | None:
    try:
        ask.grant = ask.server.get_consent_grant(ask.request, None)
    except OAuth2Error as error:
        return error
    return None


async def _sign_in_of(tx: Tx, actor: Actor) -> SignIn:
    facts = await identity.get_session_facts(tx, session_id=actor.session)
    return SignIn(facts.methods, facts.created_at)


def _wish_of(ask: Ask) -> Wish | None:
    """Read prompt and max_age; None for what is no number."""
    max_age, after = ask.parameter("max_age"), ask.parameter(AFTER)
    if any(text and not (text.isascii() and text.isdecimal() and len(text) <= 10) for text in (max_age, after)):
        return None
    return Wish(
        _words(ask.parameter("prompt")),
        int(max_age) if max_age else None,
        datetime.fromtimestamp(int(after), UTC) if after else None,
    )


async def _is_hinted(ask: Ask, actor: Actor) -> bool:
    """Say whether the one who sits there is the one that the client means; a hint of nobody's is nobody."""
    hint = ask.parameter("id_token_hint")
    if not hint:
        return True
    claims = await read_hint(ask.request, hint, ask.server.issuer.url)
    return claims is not None and claims.get("sub") == actor.id


def _with_issuer(ask: Ask, answer: Answer) -> str:
    """Add `iss` (RFC 9207), to errors too: so that a client of two servers knows which one answers."""
    if answer.location is None:
        raise BadInput("nobody can be sent back", remedy="go back to the application and start again")
    where: str = add_params_to_uri(answer.location, [("iss", ask.server.issuer.url)])
    return where


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())
