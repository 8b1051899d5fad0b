"""First entry with an enrolment code: choose a password, set an authenticator app up, keep the recovery codes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from controlplane.console.page import page
from controlplane.console.security import qr_of
from controlplane.domains.identity.service import enrolment
from controlplane.web.browser import means_of, require_own_origin
from controlplane.web.limits import source_of
from controlplane.web.transaction import Transaction

router = APIRouter(prefix="/enrol", tags=["console"], dependencies=[Depends(require_own_origin)])

Short = Annotated[str, Form(max_length=200)]
Secret = Annotated[str, Form(max_length=1000)]


@router.get("")
async def show(request: Request) -> Response:
    return enrol_page(request)


@router.post("")
async def begin(
    request: Request, tx: Transaction, code: Short, password: Secret, name: Short = ""
) -> Response:
    """Spend the code; the ticket travels in the next form, for nobody is signed in yet."""
    begun = await enrolment.begin_enrolment(
        tx, means_of(request), code=code.strip(), name=name.strip(), password=password,
        source=source_of(request.scope),
    )  # fmt: skip
    return page(
        request,
        "enrol_totp.html",
        qr=qr_of(begun.totp_uri),
        secret=begun.totp_secret,
        ticket=begun.ticket,
        name=begun.name,
        now=tx.now,
    )


@router.post("/confirmation")
async def finish(request: Request, tx: Transaction, ticket: Short, code: Short) -> Response:
    """Show what is shown once: recovery codes, a custodian's share, the second administrator's code."""
    done = await enrolment.finish_enrolment(
        tx, means_of(request), ticket=ticket, otp=code, client="browser", source=source_of(request.scope)
    )
    return page(
        request,
        "enrolled.html",
        name=done.name,
        roles=sorted(done.roles),
        codes=done.recovery_codes,
        share=done.share,
        next_code=done.next_code,
    )


def enrol_page(request: Request, *, status: int = 200, error: object = None) -> Response:
    return page(request, "enrol.html", status=status, error=error)


def confirm_page(request: Request, *, status: int, error: object) -> Response:
    """The picture was shown once and a refused ticket is spent with its request undone: go back to the form."""
    return page(request, "enrol_again.html", status=status, error=error)
