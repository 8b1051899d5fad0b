"""Signing in: a name and a password, then a second factor; or a passkey alone. And signing out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi import Form as FormField
from fastapi.responses import JSONResponse, Response

from controlplane.console.answer import passkey_of
from controlplane.console.page import HOME, NOTHING, Form, go, local_path, page
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.rules import passkeys
from controlplane.domains.factors.types import Claim, Factor, Proof
from controlplane.domains.identity.service import people, sessions
from controlplane.domains.identity.types import Carrier
from controlplane.kit.errors import BadInput, Refused
from controlplane.kit.tx import Tx
from controlplane.web.actor import require_enrolled
from controlplane.web.browser import Browser, SignInFirst, means_of, require_own_origin
from controlplane.web.cookies import clear_cookie, read_cookie, write_cookie
from controlplane.web.half_sign_in import begin_half, find_half, use_half
from controlplane.web.limits import source_of
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["console"], dependencies=[Depends(require_own_origin)])
data = APIRouter(tags=["console-data"], dependencies=[Depends(require_own_origin)])

Short = Annotated[str, FormField(max_length=200)]
Secret = Annotated[str, FormField(max_length=1000)]


@router.get("/")
async def home() -> Response:
    return go(HOME)


@router.get("/sign-in")
async def show_sign_in(request: Request) -> Response:
    return sign_in_page(request)


@router.post("/sign-in")
async def take_password(request: Request, tx: Transaction, name: Short, password: Secret) -> Response:
    """Check name and password; whoever has a second factor is sent on to show it."""
    await require_enrolled(request, tx)
    claim = Claim(await people.find_user_id(tx, name), name, source_of(request.scope))
    principal_id = await factors.verify_password(tx, NEWCOMER, means_of(request), claim, password=password)
    if not await factors.has_second_factor(tx, principal_id=principal_id):
        return await _signed_in(request, tx, Proof(principal_id, (Factor.PASSWORD,), strong=False))
    answer = go(f"/sign-in/second{_query(request)}")
    write_cookie(answer, means_of(request).origin, await begin_half(tx, claim))
    return answer


@router.get("/sign-in/second")
async def show_second(request: Request, tx: Transaction) -> Response:
    await _owed_by(request, tx)
    return second_page(request)


@router.post("/sign-in/second")
async def take_second(request: Request, tx: Transaction, code: Short = "", recovery_code: Short = "") -> Response:
    """Check a code of the authenticator app or a recovery code, and begin the session."""
    claim = await _owed_by(request, tx)
    second = await check_code(request, tx, claim, code, recovery_code)
    return await _finish(request, tx, claim, second)


@data.post("/sign-in/passkey/options")
async def ask_passkey(request: Request, tx: Transaction) -> Response:
    """Ask for any passkey of this site: the browser knows whose."""
    return _json(await factors.ask_passkey(tx, NEWCOMER, means_of(request)))


@data.post("/sign-in/passkey")
async def take_passkey(request: Request, tx: Transaction) -> Response:
    """Sign in with a passkey alone: it is held, and it verified its user."""
    await require_enrolled(request, tx)
    source, answer = source_of(request.scope), await passkey_of(request)
    proof = await factors.verify_passkey(tx, NEWCOMER, means_of(request), source=source, answer=answer.answer)
    return _next(await _signed_in(request, tx, proof))


@data.post("/sign-in/second/passkey/options")
async def ask_second_passkey(request: Request, tx: Transaction) -> Response:
    claim = await _owed_by(request, tx)
    return _json(await factors.ask_passkey(tx, NEWCOMER, means_of(request), principal_id=claim.principal_id or ""))


@data.post("/sign-in/second/passkey")
async def take_second_passkey(request: Request, tx: Transaction) -> Response:
    claim, answer = await _owed_by(request, tx), await passkey_of(request)
    await factors.verify_passkey(
        tx,
        NEWCOMER,
        means_of(request),
        source=claim.source,
        answer=answer.answer,
        principal_id=claim.principal_id or "",
    )
    return _next(await _finish(request, tx, claim, Factor.PASSKEY))


@router.post("/sign-out")
async def sign_out(request: Request, tx: Transaction, actor: Browser) -> Response:
    """End the session, not only the cookie."""
    await sessions.end_session(tx, actor)
    answer = go("/sign-in")
    clear_cookie(answer, means_of(request).origin)
    return answer


def sign_in_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    return page(
        request,
        "sign_in.html",
        status=status,
        error=error,
        name=form.get("name", request.query_params.get("name", "")[:100]),
        next=local_path(request.query_params.get("next")),
        passkeys=has_passkeys(request),
    )


def second_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    del form  # a code is not shown again
    return page(
        request,
        "second.html",
        status=status,
        error=error,
        heading="One more step",
        reason="Your password was right. Show that you also hold your device.",
        action="/sign-in/second",
        next=local_path(request.query_params.get("next")),
        passkeys=has_passkeys(request),
    )


def has_passkeys(request: Request) -> bool:
    """Say whether browsers would know passkeys of this site: not where it is reached by an address."""
    try:
        passkeys.relying_party(means_of(request).origin)
    except Refused:
        return False
    return True


async def check_code(request: Request, tx: Tx, claim: Claim, code: str, recovery_code: str) -> Factor:
    """Check whichever of the two was typed."""
    means = means_of(request)
    if code:
        await factors.verify_totp(tx, NEWCOMER, means, claim, code=code)
        return Factor.TOTP
    if recovery_code:
        await factors.verify_recovery_code(tx, NEWCOMER, means, claim, code=recovery_code)
        return Factor.RECOVERY_CODE
    raise BadInput("no code was typed", remedy="type the code that your app shows now")


async def _owed_by(request: Request, tx: Tx) -> Claim:
    secret = read_cookie(request, means_of(request).origin)
    claim = await find_half(tx, secret, source_of(request.scope))
    if claim is None:
        raise SignInFirst
    return claim


async def _finish(request: Request, tx: Tx, claim: Claim, second: Factor) -> Response:
    secret = read_cookie(request, means_of(request).origin)
    if not await use_half(tx, secret, claim.source):
        raise SignInFirst
    proof = Proof(claim.principal_id or "", (Factor.PASSWORD, second), strong=True)
    return await _signed_in(request, tx, proof)


async def _signed_in(request: Request, tx: Tx, proof: Proof) -> Response:
    """Begin a session under a new secret, whatever cookie the browser came with."""
    made = await sessions.start_session(
        tx,
        NEWCOMER,
        principal_id=proof.principal_id,
        methods=proof.methods,
        client="browser",
        source=source_of(request.scope),
        strong=proof.strong,
        carrier=Carrier.COOKIE,
    )
    answer = go(local_path(request.query_params.get("next")))
    write_cookie(answer, means_of(request).origin, made.cookie)
    return answer


def _next(redirect: Response) -> Response:
    """Say to the script what a redirect says to a form, with the same cookie."""
    answer = JSONResponse({"next": redirect.headers["location"]})
    answer.raw_headers.extend(pair for pair in redirect.raw_headers if pair[0] == b"set-cookie")
    return answer


def _json(options: str) -> Response:
    return Response(options, media_type="application/json")


def _query(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")  # `request.url` is partly made of the Host header
    return f"?{query}" if query else ""
