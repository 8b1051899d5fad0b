"""Enrolment, sign-in, one's own session, and the break-glass."""

from fastapi import APIRouter, Request

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.people import to_code
from controlplane.contracts import identity as contracts
from controlplane.contracts.admin import Rows
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import Claim, Factor
from controlplane.domains.identity.service import break_glass, enrolment, people, sessions
from controlplane.domains.identity.tables import Session
from controlplane.domains.identity.types import IssuedTokens, OpenGlass
from controlplane.web.actor import Person, require_enrolled
from controlplane.web.browser import means_of
from controlplane.web.limits import source_of
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["identity"])


@router.post("/enrolments", status_code=201)
async def begin_enrolment(
    body: contracts.BeginEnrolment, request: Request, tx: Transaction
) -> contracts.EnrolmentBegun:
    """Spend a single-use code and set a password; the answer holds what an authenticator app needs."""
    means, anybody = means_of(request), Claim(None, "", source_of(request.scope))
    async with factors.guessing(tx, NEWCOMER, means, anybody, Factor.ENROLMENT_CODE):
        begun = await enrolment.begin_enrolment(tx, means, code=body.code, name=body.name or "", password=body.password)
    return contracts.EnrolmentBegun.model_validate(begun, from_attributes=True)


@router.post("/enrolments/confirmations", status_code=201)
async def finish_enrolment(
    body: contracts.FinishEnrolment, request: Request, tx: Transaction
) -> contracts.EnrolmentFinished:
    """Show a first code of the authenticator; the answer holds a session, recovery codes, and a custodian's share."""
    done = await enrolment.finish_enrolment(
        tx, means_of(request), ticket=body.ticket, otp=body.otp, client=body.client, source=source_of(request.scope)
    )
    return contracts.EnrolmentFinished(
        name=done.name,
        roles=done.roles,
        tokens=to_tokens(done.tokens),
        recovery_codes=done.recovery_codes,
        share=done.share,
        next_code=to_code(done.next_code) if done.next_code else None,
    )


@router.post("/sign-ins", status_code=201)
async def sign_in(body: contracts.SignIn, request: Request, tx: Transaction) -> contracts.Tokens:
    """Begin a session with a password and a second factor; a browser is not needed."""
    await require_enrolled(request, tx)
    source = source_of(request.scope)
    claim = Claim(await people.find_user_id(tx, body.name), body.name, source)
    proof = await factors.prove(
        tx,
        NEWCOMER,
        means_of(request),
        claim,
        password=body.password,
        otp=body.otp,
        recovery_code=body.recovery_code,
    )
    tokens = await sessions.start_session(
        tx,
        NEWCOMER,
        principal_id=proof.principal_id,
        methods=proof.methods,
        client="cli",
        source=source,
        strong=proof.strong,
    )
    return to_tokens(tokens)


@router.post("/sign-ins/refresh", status_code=201)
async def refresh(body: contracts.Refresh, request: Request, tx: Transaction) -> contracts.Tokens:
    """Trade a refresh token for the next pair; a second use of it ends the session."""
    source = source_of(request.scope)
    return to_tokens(await sessions.refresh_session(tx, body.refresh_token, client=body.client, source=source))


@router.post("/step-ups", status_code=201)
async def step_up(body: contracts.StepUp, request: Request, tx: Transaction, actor: Person) -> contracts.SteppedUp:
    """Show a second factor again; dangerous verbs go for five minutes."""
    claim = Claim(actor.id, actor.id, source_of(request.scope))
    proof = await factors.prove_again(
        tx, actor, means_of(request), claim, otp=body.otp, recovery_code=body.recovery_code
    )
    return contracts.SteppedUp(strong_at=await sessions.mark_strong(tx, actor, methods=proof.methods))


@router.get("/whoami")
async def whoami(request: Request, tx: Transaction, actor: Person) -> contracts.Whoami:
    """Say who asks, and whether a break-glass session is open anywhere."""
    opened = await break_glass.list_open(tx)
    return contracts.Whoami(
        id=actor.id,
        name=await people.name_of(tx, actor.id),
        role=actor.role,
        roles=tuple(sorted(actor.roles)),
        project=actor.project,
        site=request.app.state.site,
        session=actor.session,
        method=actor.method,
        strong_at=actor.strong_at,
        break_glass=_to_open(opened[0]) if opened else None,
    )


@router.get("/sessions")
async def list_sessions(tx: Transaction, actor: Person, page: Paged, *, every: bool = False) -> Rows[contracts.Session]:
    """List live sessions: one's own, or with `every` everybody's."""
    found = await sessions.list_sessions(tx, actor, page=page, every=every)
    return rows(page, found, to_session, lambda row: row.id)


@router.delete("/sessions/current")
async def sign_out(tx: Transaction, actor: Person) -> contracts.Session:
    return to_session(await sessions.end_session(tx, actor))


@router.delete("/sessions/{session_id}")
async def revoke_session(session_id: str, tx: Transaction, actor: Person) -> contracts.Session:
    """End a session; its tokens are refused from the next request on."""
    return to_session(await sessions.end_session(tx, actor, session_id=session_id))


@router.post("/break-glass/openings", status_code=201)
async def open_break_glass(body: contracts.OpenBreakGlass, request: Request, tx: Transaction) -> contracts.Tokens:
    """Spend both custodians' shares for one session of an hour; everybody is told."""
    await require_enrolled(request, tx)
    source = source_of(request.scope)
    return to_tokens(await break_glass.open_break_glass(tx, shares=body.shares, reason=body.reason, source=source))


@router.post("/break-glass/shares", status_code=201)
async def make_share(tx: Transaction, actor: Person) -> contracts.Share:
    """Give a custodian a new share; the one from before ends."""
    return contracts.Share(share=await break_glass.make_share(tx, actor))


@router.get("/break-glass")
async def break_glass_state(tx: Transaction, actor: Person) -> contracts.BreakGlass:
    del actor  # whoever is signed in may know
    opened = tuple(_to_open(one) for one in await break_glass.list_open(tx))
    return contracts.BreakGlass(open=opened, missing=tuple(await break_glass.missing_custodians(tx)))


def to_tokens(made: IssuedTokens) -> contracts.Tokens:
    return contracts.Tokens(
        session_id=made.session_id,
        access_token=made.access,
        refresh_token=made.refresh,
        expires_at=made.expires_at,
        session_ends_at=made.session_ends_at,
    )


def to_session(row: Session) -> contracts.Session:
    return contracts.Session(
        id=row.id,
        principal_id=row.principal_id,
        client=row.client,
        methods=tuple(row.methods),
        source=row.source,
        created_at=row.created_at,
        seen_at=row.seen_at,
        strong_at=row.strong_at,
        ends_at=min(row.idle_expires_at, row.absolute_expires_at),
        revoked_at=row.revoked_at,
    )


def _to_open(glass: OpenGlass) -> contracts.BreakGlassOpen:
    return contracts.BreakGlassOpen(opened_at=glass.opened_at, ends_at=glass.ends_at)
