"""Showing a second factor again, before something dangerous."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi import Form as FormField
from fastapi.responses import JSONResponse, Response

from controlplane.console.answer import passkey_of
from controlplane.console.page import NOTHING, Form, go, local_path, page
from controlplane.console.sign_in import has_passkeys
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim
from controlplane.domains.identity.service import sessions
from controlplane.web.browser import Browser, means_of, require_own_origin
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["console"], dependencies=[Depends(require_own_origin)])
data = APIRouter(tags=["console-data"], dependencies=[Depends(require_own_origin)])

Short = Annotated[str, FormField(max_length=200)]


@router.get("/step-up")
async def show_step_up(request: Request, actor: Browser) -> Response:
    del actor
    return step_up_page(request)


@router.post("/step-up")
async def take_step_up(
    request: Request, tx: Transaction, actor: Browser, code: Short = "", recovery_code: Short = ""
) -> Response:
    claim = Claim(actor.id, actor.id, actor.source)
    proof = await factors.prove_again(tx, actor, means_of(request), claim, otp=code, recovery_code=recovery_code)
    await sessions.mark_strong(tx, actor, methods=proof.methods)
    return go(local_path(request.query_params.get("next")))


@data.post("/step-up/passkey/options")
async def ask_passkey(request: Request, tx: Transaction, actor: Browser) -> Response:
    options = await factors.ask_passkey(tx, actor, means_of(request), principal_id=actor.id)
    return Response(options, media_type="application/json")


@data.post("/step-up/passkey")
async def take_passkey(request: Request, tx: Transaction, actor: Browser) -> Response:
    answer = await passkey_of(request)
    proof = await factors.verify_passkey(
        tx, actor, means_of(request), source=actor.source, answer=answer.answer, principal_id=actor.id
    )
    await sessions.mark_strong(tx, actor, methods=proof.methods)
    return JSONResponse({"next": local_path(request.query_params.get("next"))})


def step_up_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    del form  # a code is not shown again
    return page(
        request,
        "second.html",
        status=status,
        error=error,
        signed_in=True,
        heading="Is it still you?",
        reason="What you are about to do needs your second factor, shown within the last five minutes.",
        action="/step-up",
        next=local_path(request.query_params.get("next")),
        passkeys=has_passkeys(request),
    )
