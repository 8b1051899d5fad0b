"""Pages of the authorization server: consent, the approval of a device, and the end of a session."""

from typing import Annotated
from urllib.parse import quote, urlencode, urlsplit

from authlib.oauth2 import OAuth2Error
from fastapi import APIRouter, Depends, Request
from fastapi import Form as FormField
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.util import greenlet_spawn

from controlplane.console.page import NOTHING, Form, go, page
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.service import tokens as identity
from controlplane.domains.oauth.service import codes, devices
from controlplane.domains.oauth.types import AskError, ClientKind, Scope, SignIn, Step
from controlplane.kit.errors import BadInput
from controlplane.kit.tx import Tx
from controlplane.web.browser import Browser, SignInFirst, authenticate_browser, means_of, require_own_origin
from controlplane.web.cookies import clear_cookie
from controlplane.web.oidc import authorize
from controlplane.web.oidc.authorize import HERE, Ask
from controlplane.web.oidc.request import OidcRequest, read_form, read_pairs
from controlplane.web.oidc.run import issuer_of
from controlplane.web.oidc.server import OidcServer
from controlplane.web.transaction import Transaction

# these two are asked by other sites: they change nothing, and what they show is asked again from a page of ours
open_router = APIRouter(tags=["console"])
router = APIRouter(tags=["console"], dependencies=[Depends(require_own_origin)])

Code = Annotated[str, FormField(max_length=40)]
Asked = Annotated[str, FormField(max_length=4096)]
Decision = Annotated[str, FormField(pattern="^(allow|deny)$")]

MEANING = {
    Scope.OPENID: "know who you are (your id on this site)",
    Scope.PROFILE: "know your name",
    Scope.API: "do everything here that you may do yourself",
    Scope.INTROSPECT: "ask about every token of this site",
}


@open_router.get("/oauth/authorize")
async def show_authorization(request: Request, tx: Transaction) -> Response:
    """Answer a client that sent somebody here: by a page, or by sending the browser back."""
    ask = await authorize.check_ask(request, tx, request.scope["query_string"].decode("latin-1"))
    if ask.refused is not None:
        return _back(authorize.refusal_of(ask))
    actor = await _whoever_sits_there(request, tx)
    if actor is None and not ask.parameter(HERE):
        return _ask_again_from_here(request, authorize.path_of({**ask.request.payload.data, HERE: "1"}))
    step, sign_in = await authorize.next_step(ask, actor)
    return await _take_step(request, ask, actor, sign_in, step)


@open_router.post("/oauth/authorize")
async def take_authorization(request: Request) -> Response:
    """Take the same request as a form, which any site may send; nobody's cookie is looked at."""
    return go(authorize.path_of(dict(await read_form(request))))


@router.post("/oauth/consent")
async def decide(request: Request, tx: Transaction, actor: Browser, asked: Asked, decision: Decision) -> Response:
    """Give the client what was shown, or not; the request is checked from its beginning again."""
    ask = await authorize.check_ask(request, tx, asked)
    if ask.refused is not None:
        return _back(authorize.refusal_of(ask))
    step, sign_in = await authorize.next_step(ask, actor)
    if decision == "deny":
        await codes.refuse_consent(tx, actor, client=ask.client)
        return _back(authorize.refuse(ask, "access_denied"))
    if step is Step.CONSENT and ask.client.kind == ClientKind.WEB:
        await codes.keep_consent(tx, actor, client=ask.client, scopes=ask.scopes)
    allowed = Step.GRANT if step is Step.CONSENT else step
    return await _take_step(request, ask, actor, sign_in, allowed)


@router.get("/device")
async def show_device(request: Request, actor: Browser) -> Response:
    del actor
    return device_page(request)


@router.post("/device")
async def look_at_device(request: Request, tx: Transaction, actor: Browser, user_code: Code) -> Response:
    """Show who waits under a code; to approve it, the code is typed again from the device's screen."""
    waiting = await devices.get_device_request(tx, actor, means_of(request), user_code=user_code)
    scopes = [MEANING[Scope(scope)] for scope in sorted(waiting.scopes)]
    return page(request, "device_check.html", signed_in=True, waiting=waiting, scopes=scopes)


@router.post("/device/decision")
async def decide_device(
    request: Request, tx: Transaction, actor: Browser, user_code: Code, decision: Decision
) -> Response:
    approve = decision == "allow"
    decided = await devices.decide_device(tx, actor, means_of(request), user_code=user_code, approve=approve)
    return page(request, "device_done.html", signed_in=True, decided=decided, approved=approve)


@open_router.get("/oauth/end_session")
async def show_end_session(request: Request, tx: Transaction) -> Response:
    """Ask whether to sign out: a client's wish alone signs nobody out."""
    encoded = request.scope["query_string"].decode("latin-1")
    fields = dict(read_pairs(encoded))
    await _where_after(request, tx, encoded)
    actor = await _whoever_sits_there(request, tx)
    if actor is None and HERE not in fields:
        return _ask_again_from_here(request, f"/oauth/end_session?{urlencode({**fields, HERE: '1'})}")
    return page(request, "end_session.html", signed_in=actor is not None, asked=encoded)


@open_router.post("/oauth/end_session")
async def take_end_session(request: Request) -> Response:
    return go(f"/oauth/end_session?{urlencode(await read_form(request))}")


@router.post("/oauth/end_session/confirmation")
async def end_session(request: Request, tx: Transaction, actor: Browser, asked: Asked = "") -> Response:
    """End the session, and send the browser to the client if it is registered and brought an id_token of ours."""
    where = await _where_after(request, tx, asked)
    await sessions.end_session(tx, actor)
    answer = _back(where) if where else go("/sign-in")
    clear_cookie(answer, means_of(request).origin)
    return answer


def device_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    del form  # a code is read again, not repeated
    return page(request, "device.html", status=status, error=error, signed_in=True)


async def _take_step(
    request: Request, ask: Ask, actor: Actor | None, sign_in: SignIn | None, step: Step | AskError
) -> Response:
    if isinstance(step, AskError):
        return _back(authorize.refuse(ask, step))
    if step is Step.SIGN_IN or actor is None or sign_in is None:
        hint = ask.parameter("login_hint")[:100]
        return go(f"/sign-in?next={quote(authorize.continuation(ask), safe='/')}&name={quote(hint, safe='')}")
    if step is Step.GRANT:
        return _back(await authorize.grant(ask, actor, sign_in))
    return await _consent_page(request, ask, actor)


async def _consent_page(request: Request, ask: Ask, actor: Actor) -> Response:
    parts = urlsplit(ask.redirect_uri)
    name = await identity.get_principal_name(ask.request.tx, principal_id=actor.id)
    return page(
        request,
        "consent.html",
        signed_in=True,
        form_targets=(f"{parts.scheme}://{parts.netloc}",),
        client=ask.client,
        name=name,
        goes_to=parts.netloc,
        scopes=[MEANING[Scope(scope)] for scope in sorted(ask.scopes)],
        asked=urlencode(ask.request.payload.data),
    )


async def _whoever_sits_there(request: Request, tx: Tx) -> Actor | None:
    try:
        return await authenticate_browser(request, tx)
    except SignInFirst:
        return None


def _ask_again_from_here(request: Request, path: str) -> Response:
    """Let the browser ask once more by itself: its cookie comes with requests of our own pages only."""
    answer = page(request, "one_moment.html", path=path)
    answer.headers["Refresh"] = f"0; url={path}"
    return answer


async def _where_after(request: Request, tx: Tx, encoded: str) -> str:
    """Return where a client wants its people after they signed out; "" when that is nowhere it may send them."""
    asked = OidcRequest(tx, request, read_pairs(encoded))
    server = OidcServer(asked, issuer_of(request))
    try:
        checked = await greenlet_spawn(server.validate_endpoint_request, "end_session", asked)
    except OAuth2Error as error:
        raise BadInput(
            f"this was not asked for rightly: {error.description or error.error}",
            remedy="sign out on your security page",
        ) from None
    return str(checked.redirect_uri or "")


def _back(where: str) -> Response:
    """Send the browser to the client; with GET, whatever came before."""
    return RedirectResponse(where, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
