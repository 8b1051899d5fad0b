"""Policy sets: what is in force, what is proposed, what a change would have answered; and who may do what, and why."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import policy as shapes
from controlplane.contracts.admin import Rows
from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.service import people
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.rules import cedar, constitution, decision, drafts, shipped
from controlplane.domains.policy.rules.replay import Difference, Group
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.store.in_force import SHIPPED
from controlplane.domains.policy.tables import PolicyPublication, PolicySet
from controlplane.domains.policy.types import BrokenPolicies, Decided, Question
from controlplane.kit.tx import Tx
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["policy"])
Version = Annotated[int, Path(ge=0, le=2**31 - 1, description="0 is the set that is shipped")]
SHIPPED_NOTE = "shipped with this version of the software"


@router.get("/verbs")
async def list_verbs(tx: Transaction, actor: Person) -> Rows[shapes.VerbRow]:
    """Return every verb that can be asked for, with the roles that it is meant for."""
    await policy.require(tx, actor, "policy.read", "site")
    return Rows(items=tuple(_verb_row(name) for name in sorted(VERBS)))


@router.get("/policy-sets")
async def list_sets(tx: Transaction, actor: Person, page: Paged) -> Rows[shapes.PolicySetRow]:
    """Return versions, newest first; the shipped one has no row."""
    found, current = await policy.list_sets(tx, actor, page=page), await policy.version_in_force(tx)
    return rows(page, found, lambda row: _row(row, current), lambda row: row.version)


@router.post("/policy-sets", status_code=201, response_model=shapes.ProposedSet)
async def propose_set(ask: shapes.DraftSet, call: Posted) -> Response:
    """Keep a set that is sound, and ask for its publication; the answer shows what it would have flipped."""
    made, approval = await policy.propose_set(call.tx, call.actor, draft=ask)
    replay = await _replay(call.tx, call.actor, made.version)
    current = await policy.version_in_force(call.tx)
    return call.created(shapes.ProposedSet(set=_row(made, current), approval_id=approval.id, replay=replay))


@router.post("/policy-checks")
async def check_set(ask: shapes.DraftSet, tx: Transaction, actor: Person) -> shapes.CheckedSet:
    """Say whether a set is sound; nothing is kept."""
    engine = await policy.check_set(tx, actor, draft=ask)
    return shapes.CheckedSet(digest=engine.digest, policies=engine.count, examples=len(ask.examples))


@router.get("/policy-sets/current")
async def get_current(tx: Transaction, actor: Person) -> shapes.PolicySetView:
    """Return the set in force."""
    return _view(await policy.get_set(tx, actor, version=None), await policy.version_in_force(tx))


@router.get("/policy-sets/{version}")
async def get_set(version: Version, tx: Transaction, actor: Person) -> shapes.PolicySetView:
    return _view(await policy.get_set(tx, actor, version=version), await policy.version_in_force(tx))


@router.post("/policy-sets/{version}/replays")
async def replay_set(version: Version, tx: Transaction, actor: Person) -> shapes.Replay:
    """Ask this version the last ten thousand recorded questions, and say which answers would be others."""
    return await _replay(tx, actor, version)


@router.post("/policy-sets/{version}/proposals", status_code=201, response_model=shapes.ProposedSet)
async def propose_publication(version: Version, ask: shapes.ProposePublication, call: Posted) -> Response:
    """Ask for a version that is there to come into force: this is how one rolls back."""
    approval = await policy.propose_publication(call.tx, call.actor, version=version, reason=ask.reason)
    stored, current = await policy.get_set(call.tx, call.actor, version=version), await policy.version_in_force(call.tx)
    replay = await _replay(call.tx, call.actor, version)
    return call.created(shapes.ProposedSet(set=_row(stored, current), approval_id=approval.id, replay=replay))


@router.post("/policy-sets/{version}/publications", status_code=201, response_model=shapes.Publication)
async def publish_set(version: Version, ask: shapes.Publish, call: Posted) -> Response:
    """Bring a version into force, spending its approval; every process follows within a second."""
    made = await policy.publish_set(call.tx, call.actor, version=version, approval_id=ask.approval_id)
    return call.created(_publication(made))


@router.get("/policy-publications")
async def list_publications(tx: Transaction, actor: Person, page: Paged) -> Rows[shapes.Publication]:
    """Return what was in force when, newest first."""
    return rows(page, await policy.list_publications(tx, actor, page=page), _publication, lambda row: row.number)


@router.post("/access-check")
async def check_access(ask: shapes.AccessCheck, tx: Transaction, actor: Person) -> shapes.AccessAnswer:
    """Say who may do what, why, and what would change the answer. Nothing is done and nothing is decided."""
    question = await _question(tx, actor, ask)
    decided, changes = await policy.check_access(tx, actor, question=question)
    told = tuple(shapes.Change(change=change.words, outcome=change.outcome.value) for change in changes)
    return _access(decided, told, await policy.version_in_force(tx))


async def _question(tx: Tx, actor: Actor, ask: shapes.AccessCheck) -> Question:
    """Oneself is taken as one is now, a known person with the roles held, and with roles given it may be anybody."""
    if ask.who in {"me", actor.id}:
        thing, to = drafts.to_resource(ask.resource), drafts.to_place(ask.to)
        return decision.to_question(actor, ask.verb, thing, to, tx.now)
    if ask.roles is not None:
        return drafts.to_question(ask, ask.who, ask.roles, ask.project or "")
    known = await people.get_user(tx, actor, name=ask.who)
    roles = () if known.principal.disabled_at else known.roles
    return drafts.to_question(ask, known.principal.id, roles, known.principal.project)


def _access(decided: Decided, changes: tuple[shapes.Change, ...], version: int) -> shapes.AccessAnswer:
    question, answer = decided.question, decided.answer
    return shapes.AccessAnswer(
        who=question.actor,
        roles=tuple(sorted(question.roles)),
        project=question.project,
        verb=question.verb,
        resource=question.resource.id,
        outcome=answer.outcome.value,
        policies=answer.policies,
        clauses=answer.clauses,
        reasons=tuple(constitution.MEANING[clause] for clause in answer.clauses),
        errors=answer.errors,
        changes=changes,
        version=version,
        digest=decided.digest,
    )


async def _replay(tx: Tx, actor: Actor, version: int) -> shapes.Replay:
    found, since = await policy.replay_set(tx, actor, version=version)
    return _replay_shape(found, version, await policy.version_in_force(tx), since)


def _replay_shape(found: Difference, version: int, against: int, since: datetime | None) -> shapes.Replay:
    return shapes.Replay(
        version=version,
        against=against,
        replayed=found.replayed,
        distinct=found.distinct,
        unreadable=found.unreadable,
        flipped=found.flipped,
        groups=tuple(_groups(found.groups)),
        since=since,
    )


def _groups(groups: Iterable[Group]) -> Iterable[shapes.FlipGroup]:
    for group in groups:
        question, after = group.example, group.after
        yield shapes.FlipGroup(
            verb=question.verb,
            roles=tuple(sorted(question.roles)),
            before=group.before.outcome.value,
            after=after.outcome.value,
            times=group.times,
            who=question.actor,
            resource=question.resource.id,
            why=(*after.policies, *after.clauses, *after.errors) or ("no policy allows it",),
        )


def _row(stored: PolicySet | None, current: int) -> shapes.PolicySetRow:
    if stored is None:
        return shapes.PolicySetRow(
            version=0, note=SHIPPED_NOTE, sha256=SHIPPED.digest, proposed_by="", proposed_at=None, in_force=current == 0
        )
    return shapes.PolicySetRow(
        version=stored.version,
        note=stored.note,
        sha256=stored.sha256,
        proposed_by=stored.proposed_by,
        proposed_at=stored.proposed_at,
        in_force=stored.version == current,
    )


def _view(stored: PolicySet | None, current: int) -> shapes.PolicySetView:
    row = _row(stored, current).model_dump()
    if stored is None:
        text, examples = shipped.shipped_policies(), drafts.shipped_examples()
        return shapes.PolicySetView(**row, digest=SHIPPED.digest, policies=text, examples=examples)
    examples = tuple(shapes.Example.model_validate(example) for example in stored.examples)
    digest, broken = _digest(stored.policies)
    return shapes.PolicySetView(**row, digest=digest, policies=stored.policies, examples=examples, broken=broken)


def _digest(policies: str) -> tuple[str, tuple[str, ...]]:
    try:
        return cedar.load(policies, VERBS).digest, ()
    except BrokenPolicies as error:
        return "", error.reasons


def _publication(row: PolicyPublication) -> shapes.Publication:
    return shapes.Publication(
        number=row.number,
        version=row.version or 0,
        approval_id=row.approval_id or "",
        proposed_by=row.proposed_by,
        approved_by=row.approved_by,
        published_by=row.published_by,
        at=row.at,
        replayed=row.replayed,
        flipped=row.flipped,
    )


def _verb_row(name: str) -> shapes.VerbRow:
    verb = VERBS[name]
    return shapes.VerbRow(
        verb=name,
        kind=verb.kind,
        roles=tuple(sorted(verb.roles)),
        dangerous=verb.dangerous,
        own=verb.own,
        shared=verb.shared,
        moves=verb.moves,
        four_eyes=verb.four_eyes,
    )
