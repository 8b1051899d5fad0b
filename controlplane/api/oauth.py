"""The protocol's routes for programs: token, device, introspection, revocation, userinfo, keys, discovery."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from controlplane.domains.identity.service import sessions as identity
from controlplane.domains.identity.service import tokens
from controlplane.domains.oauth.service import keys
from controlplane.domains.oauth.types import Scope
from controlplane.kit.errors import Denied, RedoubtError, Unauthenticated
from controlplane.web.limits import source_of
from controlplane.web.oidc.answer import NO_STORE, ProtocolRefused
from controlplane.web.oidc.id_token import claims_of_person
from controlplane.web.oidc.metadata import describe
from controlplane.web.oidc.request import FORM, read_form
from controlplane.web.oidc.run import answer_form, issuer_of, record_refusal, to_refusal
from controlplane.web.transaction import Transaction, database_of

KEYS_MAX_AGE_S = 300

router = APIRouter(tags=["oauth"])
machine_router = APIRouter(tags=["oauth"])


@machine_router.post("/oauth/token")
@router.post("/oauth/token")
async def token(http: Request) -> Response:
    """Trade a code, a device code, a refresh token or a service's own proof for tokens (RFC 6749, RFC 8628)."""
    return await answer_form(http, lambda server, request: server.create_token_response(request))


@router.post("/oauth/device_authorization")
async def device_authorization(http: Request) -> Response:
    """Begin the sign-in of a device without a browser (RFC 8628)."""
    return await answer_form(
        http, lambda server, request: server.create_endpoint_response("device_authorization", request)
    )


@machine_router.post("/oauth/introspect")
@router.post("/oauth/introspect")
async def introspect(http: Request) -> Response:
    """Say whether a token lives (RFC 7662)."""
    return await answer_form(http, lambda server, request: server.create_endpoint_response("introspection", request))


@machine_router.post("/oauth/revoke")
@router.post("/oauth/revoke")
async def revoke(http: Request) -> Response:
    """End the session of a token (RFC 7009)."""
    return await answer_form(http, lambda server, request: server.create_endpoint_response("revocation", request))


@router.get("/oauth/userinfo")
@router.post("/oauth/userinfo")
async def userinfo(http: Request) -> Response:
    """Say who signed in (OIDC Core, 5.3); the token comes in the header, or in the form of a POST."""
    try:
        secret = await _bearer(http)
        async with database_of(http).transaction() as tx:
            actor = await identity.authenticate(tx, secret, source=source_of(http.scope), scope=Scope.OPENID)
            facts = await tokens.get_session_facts(tx, session_id=actor.session)
            claims = await claims_of_person(tx, actor.id, facts.scopes)
    except Unauthenticated:
        return await _refuse(http, ProtocolRefused("invalid_token", "the token does not count", status=401))
    except Denied:
        return await _refuse(http, ProtocolRefused("insufficient_scope", "not allowed", status=403))
    except RedoubtError as error:
        return await _refuse(http, to_refusal(error))
    return JSONResponse(claims, headers=NO_STORE)


@router.get("/oauth/jwks")
async def jwks(tx: Transaction) -> JSONResponse:
    """Return the public keys of id_tokens, the next one included."""
    published = await keys.publish_keys(tx)
    return JSONResponse({"keys": published}, headers={"Cache-Control": f"max-age={KEYS_MAX_AGE_S}"})


@router.get("/.well-known/openid-configuration")
@router.get("/.well-known/oauth-authorization-server")
async def metadata(http: Request) -> JSONResponse:
    """Return what this server can do (OpenID Connect Discovery 1.0, RFC 8414)."""
    return JSONResponse(describe(issuer_of(http)), headers={"Cache-Control": f"max-age={KEYS_MAX_AGE_S}"})


async def _bearer(http: Request) -> str:
    """Return the one token that was sent; raises ProtocolRefused for two, Unauthenticated for none."""
    sent = [value[7:].strip() for value in http.headers.getlist("authorization") if value[:7].lower() == "bearer "]
    if http.method == "POST" and http.headers.get("content-type", "").startswith(FORM):
        sent += [value for name, value in await read_form(http) if name == "access_token"]
    if "access_token" in http.query_params:
        raise ProtocolRefused("invalid_request", "a token does not belong in an address")
    if len(sent) > 1:
        raise ProtocolRefused("invalid_request", "more than one credential in one request")
    if not sent:
        raise Unauthenticated("no token was sent", remedy="send `Authorization: Bearer …`")
    return sent[0]


async def _refuse(http: Request, refusal: ProtocolRefused) -> Response:
    await record_refusal(http, refusal)
    if refusal.answer_status in {401, 403}:
        refusal.headers["WWW-Authenticate"] = f'Bearer error="{refusal.code}"'
    return refusal.to_response()
