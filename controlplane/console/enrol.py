"""First entry with an enrolment code: choose a password, set an authenticator app up, keep the recovery codes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi import Form as FormField
from fastapi.responses import Response

from controlplane.console.page import NOTHING, Form, page
from controlplane.console.security import qr_of
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim, Factor
from controlplane.domains.identity.service import enrolment
from controlplane.domains.identity.types import Carrier
from controlplane.web.browser import means_of, require_own_origin
from controlplane.web.cookies import write_cookie
from controlplane.web.limits import source_of
from controlplane.web.transaction import Transaction

router = APIRouter(prefix="/enrol", tags=["console"], dependencies=[Depends(require_own_origin)])
CONFIRMATION = "/enrol/confirmation"

Short = Annotated[str, FormField(max_length=200)]
Secret = Annotated[str, FormField(max_length=1000)]


@router.get("")
async def show(request: Request) -> Response:
    return enrol_page(request)


@router.post("")
async def begin(request: Request, tx: Transaction, code: Short, password: Secret, name: Short = "") -> Response:
    """Spend the code; the ticket travels in the next form, for nobody is signed in yet."""
    means, anybody = means_of(request), Claim(None, "", source_of(request.scope))
    async with factors.guessing(tx, NEWCOMER, means, anybody, Factor.ENROLMENT_CODE):
        begun = await enrolment.begin_enrolment(tx, means, code=code.strip(), name=name.strip(), password=password)
    return page(
        request,
        "totp.html",
        qr=qr_of(begun.totp_uri),
        secret=begun.totp_secret,
        ticket=begun.ticket,
        action=CONFIRMATION,
        now=tx.now,
    )


@router.post("/confirmation")
async def finish(request: Request, tx: Transaction, ticket: Short, code: Short) -> Response:
    """Show what is shown once: recovery codes, a custodian's share, the second administrator's code."""
    means, source = means_of(request), source_of(request.scope)
    done = await enrolment.finish_enrolment(
        tx, means, ticket=ticket, otp=code, client="browser", source=source, carrier=Carrier.COOKIE
    )
    answer = page(
        request,
        "enrolled.html",
        signed_in=True,
        name=done.name,
        roles=sorted(done.roles),
        codes=done.recovery_codes,
        share=done.share,
        next_code=done.next_code,
    )
    write_cookie(answer, means.origin, done.tokens.cookie)
    return answer


def enrol_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    code, name = form.get("code", ""), form.get("name", "")
    return page(request, "enrol.html", status=status, error=error, code=code, name=name)


def confirm_page(request: Request, *, status: int = 200, error: object = None, form: Form = NOTHING) -> Response:
    """Ask for the code again; a ticket whose code was wrong is as good as before."""
    return page(
        request, "confirm_totp.html", status=status, error=error, ticket=form.get("ticket", ""), action=CONFIRMATION
    )
