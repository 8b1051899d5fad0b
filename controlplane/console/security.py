"""One's own security: passkeys, authenticator app, recovery codes, password, sessions."""

from typing import Annotated

import segno
from fastapi import APIRouter, Depends, Request
from fastapi import Form as FormField
from fastapi.responses import JSONResponse, Response
from markupsafe import Markup

from controlplane.console.answer import passkey_of
from controlplane.console.page import HOME, NOTHING, Form, go, page
from controlplane.domains.audit.types import Actor
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.rules import passkeys, passwords
from controlplane.domains.factors.types import Claim
from controlplane.domains.identity.service import people, sessions
from controlplane.domains.policy.types import STAFF
from controlplane.kit.errors import Refused
from controlplane.kit.paging import MOST_ROWS, Page
from controlplane.web.browser import Browser, means_of, require_own_origin
from controlplane.web.transaction import Transaction

router = APIRouter(prefix=HOME, tags=["console"], dependencies=[Depends(require_own_origin)])
data = APIRouter(prefix=HOME, tags=["console-data"], dependencies=[Depends(require_own_origin)])

Short = Annotated[str, FormField(max_length=200)]
Secret = Annotated[str, FormField(max_length=1000)]


@router.get("")
async def show(request: Request, tx: Transaction, actor: Browser) -> Response:
    """Show all that lets one in, and where one is signed in."""
    return page(
        request,
        "security.html",
        signed_in=True,
        actor=actor,
        name=await people.name_of(tx, actor.id),
        roles=sorted(actor.roles),
        held=await factors.list_factors(tx, actor, principal_id=actor.id),
        sessions=await sessions.list_sessions(tx, actor, page=Page(MOST_ROWS, None)),
        least=passwords.LEAST_STAFF if _is_staff(actor) else passwords.LEAST_TENANT,
        no_passkeys=_why_no_passkeys(request),
    )


@router.post("/password")
async def change_password(request: Request, tx: Transaction, actor: Browser, current: Secret, new: Secret) -> Response:
    """Change the password of whoever knows the present one."""
    means, name = means_of(request), await people.name_of(tx, actor.id)
    await factors.verify_password(tx, actor, means, Claim(actor.id, name, actor.source), password=current)
    await factors.set_password(
        tx,
        actor,
        means,
        principal_id=actor.id,
        password=new,
        staff=_is_staff(actor),
        context=frozenset({name, actor.project}),
    )
    return go(HOME)


@router.post("/totp")
async def begin_totp(request: Request, tx: Transaction, actor: Browser) -> Response:
    """Show the picture for the authenticator app, once."""
    name = await people.name_of(tx, actor.id)
    begun = await factors.begin_totp(tx, actor, means_of(request), principal_id=actor.id, name=name)
    return page(
        request,
        "totp.html",
        signed_in=True,
        qr=qr_of(begun.uri),
        secret=begun.secret,
        action=f"{HOME}/totp/confirmation",
        now=tx.now,
    )


@router.post("/totp/confirmation")
async def confirm_totp(request: Request, tx: Transaction, actor: Browser, code: Short) -> Response:
    await factors.confirm_totp(tx, actor, means_of(request), principal_id=actor.id, code=code)
    return go(HOME)


@router.post("/totp/removal")
async def remove_totp(tx: Transaction, actor: Browser) -> Response:
    await factors.remove_totp(tx, actor, principal_id=actor.id)
    return go(HOME)


@router.post("/recovery-codes")
async def make_recovery_codes(request: Request, tx: Transaction, actor: Browser) -> Response:
    """Show ten new codes, once."""
    codes = await factors.make_recovery_codes(tx, actor, principal_id=actor.id)
    return page(request, "codes.html", signed_in=True, codes=codes)


@data.post("/passkeys/options")
async def begin_passkey(request: Request, tx: Transaction, actor: Browser) -> Response:
    name = await people.name_of(tx, actor.id)
    options = await factors.begin_passkey(tx, actor, means_of(request), principal_id=actor.id, name=name)
    return Response(options, media_type="application/json")


@data.post("/passkeys")
async def finish_passkey(request: Request, tx: Transaction, actor: Browser) -> Response:
    sent = await passkey_of(request)
    await factors.finish_passkey(
        tx, actor, means_of(request), principal_id=actor.id, name=sent.name or "passkey", answer=sent.answer
    )
    return JSONResponse({"next": HOME})


@router.post("/passkeys/{passkey_id}/removal")
async def remove_passkey(passkey_id: str, tx: Transaction, actor: Browser) -> Response:
    await factors.remove_passkey(tx, actor, principal_id=actor.id, passkey_id=passkey_id)
    return go(HOME)


@router.post("/sessions/{session_id}/end")
async def end_session(session_id: str, tx: Transaction, actor: Browser) -> Response:
    """End one of one's own sessions, from the next request on."""
    own = await sessions.list_sessions(tx, actor, page=Page(MOST_ROWS, None))
    if session_id in {row.id for row in own}:
        await sessions.end_session(tx, actor, session_id=session_id)
    return go(HOME)


def confirm_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    """Ask for the code again; the picture was shown once."""
    del form  # a code is not shown again
    return page(
        request, "confirm_totp.html", status=status, error=error, signed_in=True, action=f"{HOME}/totp/confirmation"
    )


def qr_of(uri: str) -> Markup:
    """Return the picture as inline SVG, which needs no permission of the page's policy."""
    return Markup(segno.make(uri, error="m", micro=False).svg_inline(scale=5, border=2))  # noqa: S704 - segno made all of it


def _is_staff(actor: Actor) -> bool:
    return bool(actor.roles & STAFF)


def _why_no_passkeys(request: Request) -> Refused | None:
    try:
        passkeys.relying_party(means_of(request).origin)
    except Refused as refused:
        return refused
    return None
