"""One request of the protocol in one transaction, answered after its commit; refusals are on record."""

from collections.abc import Callable

import structlog
from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.util import greenlet_spawn

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER
from controlplane.kit.errors import Denied, RedoubtError, Unauthenticated, Unavailable
from controlplane.web.denials import record_counts
from controlplane.web.limits import source_of
from controlplane.web.oidc.answer import Answer, ProtocolRefused
from controlplane.web.oidc.issuer import Issuer
from controlplane.web.oidc.request import OidcRequest, read_form, refuse_two_proofs
from controlplane.web.oidc.server import OidcServer
from controlplane.web.transaction import database_of

log = structlog.get_logger()

Act = Callable[[OidcServer, OidcRequest], Answer]
WAITING = frozenset({"authorization_pending", "slow_down"})  # a device asks every few seconds; the end is on record


def issuer_of(http: Request) -> Issuer:
    issuer = http.app.state.issuer
    if not isinstance(issuer, Issuer):
        raise Unavailable(
            "this site has no key to sign with", remedy="name one in [oauth] of the api's settings", code="no_issuer"
        )
    return issuer


async def answer_form(http: Request, act: Act) -> Response:
    """Answer a POST of a client: parse, act inside Authlib, commit, then speak."""
    try:
        pairs = await read_form(http)
        refuse_two_proofs(http, dict(pairs))
        async with database_of(http).transaction() as tx:
            request = OidcRequest(tx, http, pairs)
            answer = await greenlet_spawn(act, OidcServer(request, issuer_of(http)), request)
            _raise_refusal(answer, request)
    except RedoubtError as error:
        refusal = to_refusal(error)
        await record_refusal(http, refusal)
        return refusal.to_response()
    return answer.to_response()


def to_refusal(error: RedoubtError) -> ProtocolRefused:
    """Say one of our errors in the protocol's words; what it tells of our inside stays in the log."""
    match error:
        case ProtocolRefused():
            return error
        case Unauthenticated():
            return ProtocolRefused("invalid_grant", "the grant, the token or the account does not count")
        case Denied():
            return ProtocolRefused("access_denied", "not allowed")
        case Unavailable():
            return ProtocolRefused("temporarily_unavailable", "try again later", status=503)
        case _:
            return ProtocolRefused("invalid_request", "refused")


async def record_refusal(http: Request, refusal: ProtocolRefused) -> None:
    """The refused request was rolled back, so its refusal is written, or counted, in a transaction of its own."""
    log.info("oauth.refused", path=http.scope["path"], error=refusal.code, detail=refusal.detail)
    if refusal.code in WAITING:
        return
    database, counter, source = database_of(http), http.app.state.denials, source_of(http.scope)
    now = database.now()
    try:
        await record_counts(database, counter.settle(now))
        if not counter.note(source, refusal.code, now):
            return
        async with database.transaction() as tx:
            path = http.scope["path"][:200]
            await audit.record(tx, NEWCOMER, "oauth.refused", path, error=refusal.code, source=source)
    except RedoubtError as failure:
        log.warning("refusal.unrecorded", path=http.scope["path"], error=failure.detail)


def _raise_refusal(answer: Answer, request: OidcRequest) -> None:
    """Leave the transaction by an error, so that it rolls back unless the refusal must be kept."""
    if answer.error is None:
        return
    body = dict(answer.body)
    headers = {name: value for name, value in answer.headers if name == "WWW-Authenticate"}
    raise ProtocolRefused(
        answer.error,
        str(body.get("error_description", "")),
        status=answer.status,
        headers=headers,
        keeps_changes=request.keeps_changes,
    )
