"""The one question every verb asks, approvals by a second person, and the policy sets that answer."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from controlplane.contracts.policy import ApprovalState, DraftSet
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM, Actor
from controlplane.domains.policy.rules import cedar, constitution, decision, drafts, explain
from controlplane.domains.policy.rules.cedar import Engine
from controlplane.domains.policy.rules.replay import Difference, Recorded, replay
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.store import in_force
from controlplane.domains.policy.store import rows as store
from controlplane.domains.policy.tables import Approval, PolicyPublication, PolicySet
from controlplane.domains.policy.types import (
    Answer,
    Decided,
    Outcome,
    Place,
    PolicyDenied,
    Question,
    Resource,
    StepUpRequired,
)
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

log = structlog.get_logger()

PROPOSED_FOR = timedelta(days=3)
REPLAYED = 10_000


async def require(tx: Tx, actor: Actor, action: str, resource: str | Resource, *, to: Place | None = None) -> None:
    """Raise PolicyDenied unless the actor may do `action` to `resource`, StepUpRequired if a second factor would do.

    A resource that is only named is the site's own; `to` is where a verb that moves data moves it.
    """
    thing = Resource(action.partition(".")[0], resource) if isinstance(resource, str) else resource
    known = await in_force.get_in_force(tx)
    decider = in_force.decider_of(known)
    question = decision.to_question(actor, action, thing, to, tx.now)
    answer, digest = decider.answer(question), decider.engine.digest
    tx.session.info["policy_digest"] = digest
    decided = Decided(question, answer, digest)
    if answer.outcome is not Outcome.ALLOW:
        raise _refusal(decided)
    await in_force.keep_decision(tx, known, decided)


async def record_denial(tx: Tx, actor: Actor, denial: PolicyDenied) -> None:
    """Keep a denied decision; the edge calls it in a second transaction, because the refused one was rolled back."""
    known = await in_force.get_in_force(tx)
    decided, answer = denial.decided, denial.decided.answer
    await in_force.keep_decision(tx, known, decided)
    if answer.disputed:
        verb, resource = decided.question.verb, decided.question.resource.id
        log.error("policy.disputed", verb=verb, policies=answer.policies, clauses=answer.clauses)
        about = {"policies": list(answer.policies), "clauses": list(answer.clauses), "policy_digest": decided.digest}
        await audit.record(tx, actor, "policy.disputed", resource, verb=verb, **about)


async def propose(
    tx: Tx, actor: Actor, *, action: str, subject: Mapping[str, object], reason: str, lifetime: timedelta
) -> Approval:
    """Ask a second person to let the actor do `action` with exactly this subject, once."""
    await require(tx, actor, "approval.propose", action)
    wanting = sorted(verb.name for verb in VERBS.values() if verb.four_eyes)
    if action not in wanting:
        raise BadInput(f"{action} wants no second person", remedy=f"these do: {', '.join(wanting)}")
    await require(tx, actor, action, "site")
    made = Approval(
        id=new_id("approval"), action=action, subject=dict(subject), subject_sha256=_subject_digest(subject),
        reason=reason, proposed_by=actor.id, proposed_at=tx.now, expires_at=tx.now + lifetime,
    )  # fmt: skip
    store.add(tx, made)
    await tx.session.flush()
    await audit.record(tx, actor, "approval.proposed", made.id, action=action, subject_sha256=made.subject_sha256)
    return made


async def approve(tx: Tx, actor: Actor, *, approval_id: str) -> Approval:
    """Let it happen; the actor is a security administrator and not the one who asked."""
    await require(tx, actor, "approval.decide", approval_id)
    found = await _get_approval(tx, approval_id)
    if found.proposed_by == actor.id:
        raise Refused(
            "nobody approves what they proposed themselves",
            remedy="ask another security administrator", code="two_people",
        )  # fmt: skip
    if not await store.mark_approved(tx, approval_id, actor.id):
        raise _decided(await _get_approval(tx, approval_id), tx)
    await audit.record(tx, actor, "approval.approved", approval_id, action=found.action, proposed_by=found.proposed_by)
    return await _get_approval(tx, approval_id)


async def refuse(tx: Tx, actor: Actor, *, approval_id: str) -> Approval:
    """Say no to it; who proposed it may take it back so."""
    found = await store.find_approval(tx, approval_id)
    verb = "approval.propose" if found is not None and found.proposed_by == actor.id else "approval.decide"
    await require(tx, actor, verb, approval_id)
    if not await store.mark_refused(tx, approval_id, actor.id):
        raise _decided(await _get_approval(tx, approval_id), tx)
    refused = await _get_approval(tx, approval_id)
    await audit.record(tx, actor, "approval.refused", approval_id, action=refused.action)
    return refused


async def spend_approval(
    tx: Tx, actor: Actor, approval_id: str, action: str, subject: Mapping[str, object]
) -> Approval:
    """Use an approval up for what is done in this transaction; raises Refused for any but a live one of this subject.

    The caller has asked `require` for the action itself; only the two people of the approval may spend it.
    """
    found = await _get_approval(tx, approval_id)
    if actor.id not in {found.proposed_by, found.approved_by}:
        raise Refused("this approval is of two other people", remedy=f"redoubt approval propose {action} …")
    if not await store.mark_spent(tx, approval_id, actor.id, action, _subject_digest(subject)):
        raise _unspendable(await _get_approval(tx, approval_id), tx, action, subject)
    await audit.record(tx, actor, "approval.spent", approval_id, action=action, approved_by=found.approved_by)
    tx.session.info["approvals"] = (*tx.session.info.get("approvals", ()), approval_id)
    return await _get_approval(tx, approval_id)


async def get_approval(tx: Tx, actor: Actor, *, approval_id: str) -> Approval:
    await require(tx, actor, "approval.read", approval_id)
    return await _get_approval(tx, approval_id)


async def list_approvals(tx: Tx, actor: Actor, *, page: Page, only_open: bool) -> Sequence[Approval]:
    await require(tx, actor, "approval.read", "site")
    return await store.list_approvals(tx, page, only_open=only_open)


def state_of(approval: Approval, tx: Tx) -> ApprovalState:
    """Return the one word for where an approval stands."""
    if approval.refused_at is not None:
        return "refused"
    if approval.spent_at is not None:
        return "spent"
    if approval.expires_at <= tx.now:
        return "expired"
    return "waiting" if approval.approved_at is None else "approved"


async def check_set(tx: Tx, actor: Actor, *, draft: DraftSet) -> Engine:
    """Say whether a set could be proposed; raises BrokenPolicies with all that is wrong."""
    await require(tx, actor, "policy.read", "site")
    return drafts.check(draft.policies, draft.examples, VERBS)


async def propose_set(tx: Tx, actor: Actor, *, draft: DraftSet) -> tuple[PolicySet, Approval]:
    """Keep a sound set as a new version, and ask a security administrator to let it be published."""
    await require(tx, actor, "policy.propose", "site")
    drafts.check(draft.policies, draft.examples, VERBS)
    examples = [example.model_dump(mode="json") for example in draft.examples]
    made = PolicySet(
        sha256=drafts.digest_of(draft.policies, examples), policies=draft.policies, examples=examples, note=draft.note,
        proposed_by=actor.id, proposed_at=tx.now,
    )  # fmt: skip
    store.add(tx, made)
    await tx.session.flush()
    await audit.record(tx, actor, "policy.proposed", str(made.version), sha256=made.sha256, note=made.note)
    return made, await propose_publication(tx, actor, version=made.version, reason=made.note)


async def propose_publication(tx: Tx, actor: Actor, *, version: int, reason: str) -> Approval:
    """Ask for a version that is there to be published: an older one to roll back, 0 for the shipped set."""
    subject = _publication(version, await _get_set(tx, version))
    return await propose(tx, actor, action="policy.publish", subject=subject, reason=reason, lifetime=PROPOSED_FOR)


async def publish_set(tx: Tx, actor: Actor, *, version: int, approval_id: str) -> PolicyPublication:
    """Bring an approved version into force; every process follows within a second."""
    await require(tx, actor, "policy.publish", str(version))
    stored = await _get_set(tx, version)
    if stored is not None:
        cedar.load(stored.policies, VERBS)
    approval = await spend_approval(tx, actor, approval_id, "policy.publish", _publication(version, stored))
    difference, _ = await _replay(tx, stored)
    made = PolicyPublication(
        version=version or None, approval_id=approval.id, proposed_by=approval.proposed_by,
        approved_by=approval.approved_by or "", published_by=actor.id, at=tx.now,
        replayed=difference.replayed, flipped=difference.flipped,
    )  # fmt: skip
    store.add(tx, made)
    await tx.session.flush()
    in_force.look_again(tx)
    told = {"approval": approval.id, "replayed": difference.replayed, "flipped": difference.flipped}
    await audit.record(tx, actor, "policy.published", str(version), **told)
    return made


async def reset(tx: Tx, actor: Actor) -> None:
    """Bring the shipped set back into force without a second person: for the control-plane node's console alone."""
    if actor is not SYSTEM:
        raise Refused("only the control-plane node itself resets", remedy="redoubt policy roll-back 0")
    made = PolicyPublication(
        version=None, approval_id=None, proposed_by="console", approved_by="nobody", published_by="console", at=tx.now,
        replayed=0, flipped=0,
    )  # fmt: skip
    store.add(tx, made)
    in_force.look_again(tx)
    await audit.record(tx, actor, "policy.reset", "site", by="the console of the control-plane node")


async def replay_set(tx: Tx, actor: Actor, *, version: int) -> tuple[Difference, datetime | None]:
    """Return what the newest recorded decisions would have been under this version, and since when they are."""
    await require(tx, actor, "policy.read", str(version))
    return await _replay(tx, await _get_set(tx, version))


async def get_set(tx: Tx, actor: Actor, *, version: int | None) -> PolicySet | None:
    """Return a version, or the one in force; None is the shipped set."""
    await require(tx, actor, "policy.read", "site" if version is None else str(version))
    return await _get_set(tx, (await in_force.get_in_force(tx)).version if version is None else version)


async def list_sets(tx: Tx, actor: Actor, *, page: Page) -> Sequence[PolicySet]:
    await require(tx, actor, "policy.read", "site")
    return await store.list_sets(tx, page)


async def list_publications(tx: Tx, actor: Actor, *, page: Page) -> Sequence[PolicyPublication]:
    await require(tx, actor, "policy.read", "site")
    return await store.list_publications(tx, page)


async def check_access(tx: Tx, actor: Actor, *, question: Question) -> tuple[Decided, list[explain.Change]]:
    """Say what the answer to a question is, why, and what would change it. It decides nothing."""
    own = question.actor == actor.id
    await require(tx, actor, "access.check_own" if own else "access.check", question.actor)
    decider = in_force.decider_of(await in_force.get_in_force(tx))
    decided = Decided(question, decider.answer(question), decider.engine.digest)
    return decided, await asyncio.to_thread(explain.changes, decider.engine, question)


async def answer_all(tx: Tx, actor: Actor, *, questions: Sequence[Question]) -> tuple[list[Answer], str]:
    """Answer many questions by the policies in force, and say by which digest. It decides nothing."""
    await require(tx, actor, "access.check", "site")
    decider = in_force.decider_of(await in_force.get_in_force(tx))
    return await asyncio.to_thread(lambda: [decider.answer(one) for one in questions]), decider.engine.digest


async def policies_in_force(tx: Tx) -> str:
    """Return the text of what decides now. For other domains."""
    return in_force.decider_of(await in_force.get_in_force(tx)).engine.text


async def version_in_force(tx: Tx) -> int:
    return (await in_force.get_in_force(tx)).version


async def _replay(tx: Tx, stored: PolicySet | None) -> tuple[Difference, datetime | None]:
    """Ask in a thread: ten thousand different questions take seconds, and others ask meanwhile."""
    now = in_force.decider_of(await in_force.get_in_force(tx)).engine
    then = in_force.SHIPPED if stored is None else cedar.load(stored.policies, VERBS)
    found = await store.list_newest_decisions(tx, REPLAYED)
    recorded = [Recorded(row.question, row.times) for row in found]
    return await asyncio.to_thread(replay, now, then, recorded), found[-1].at if found else None


async def _get_set(tx: Tx, version: int) -> PolicySet | None:
    found = None if version == 0 else await store.find_set(tx, version)
    if found is None and version != 0:
        raise NotFound(f"no policy set {version}", remedy="redoubt policy list")
    return found


def _publication(version: int, stored: PolicySet | None) -> dict[str, object]:
    """Return what an approval of a publication is about."""
    return {"version": version, "sha256": in_force.SHIPPED.digest if stored is None else stored.sha256}


def _refusal(decided: Decided) -> PolicyDenied:
    question, answer = decided.question, decided.answer
    if answer.outcome is Outcome.STEP_UP:
        return StepUpRequired(
            f"{question.verb} wants a second factor that is not older than five minutes",
            remedy="show your second factor again, then repeat it", code="step_up_required", decided=decided,
        )  # fmt: skip
    who = f"{'+'.join(sorted(question.roles)) or 'nobody'} {question.actor}"
    return PolicyDenied(
        f"{who} may not {question.verb} on {question.resource}",
        remedy=f"see why: redoubt policy explain me {question.verb} {question.resource}",
        decided=decided, reasons=tuple(constitution.MEANING[clause] for clause in answer.clauses),
    )  # fmt: skip


async def _get_approval(tx: Tx, approval_id: str) -> Approval:
    found = await store.find_approval(tx, approval_id)
    if found is None:
        raise NotFound(f"no approval {approval_id}", remedy="redoubt approval list --all")
    return found


def _decided(approval: Approval, tx: Tx) -> Refused:
    return Refused(f"{approval.id} is {state_of(approval, tx)} already", remedy="redoubt approval list", code="decided")


def _unspendable(approval: Approval, tx: Tx, action: str, subject: Mapping[str, object]) -> Refused:
    state = state_of(approval, tx)
    if state != "approved":
        why = f"{approval.id} is {state}"
    elif approval.action != action or approval.subject_sha256 != _subject_digest(subject):
        why = f"{approval.id} was given for something else than this {action}"
    else:
        why = f"{approval.id} was spent a moment ago"
    return Refused(why, remedy=f"redoubt approval propose {action} …, and have it approved", code="not_approved")


def _subject_digest(subject: Mapping[str, object]) -> str:
    return sha256_hex(canonical_json(dict(subject)))
