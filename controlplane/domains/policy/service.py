"""The one question every verb asks."""

from controlplane.domains.audit.types import Actor
from controlplane.domains.policy.rules import cedar, constitution, decision, shipped
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import (
    Answer,
    Outcome,
    Place,
    PolicyDenied,
    Question,
    Resource,
    StepUpRequired,
)
from controlplane.kit.tx import Tx

SHIPPED = decision.Decider(cedar.load(shipped.shipped_policies(), VERBS))


async def require(tx: Tx, actor: Actor, action: str, resource: str | Resource, *, to: Place | None = None) -> None:
    """Raise PolicyDenied unless the actor may do `action` to `resource`, StepUpRequired if a second factor would do.

    A resource that is only named is the site's own; `to` is where a verb that moves data moves it.
    """
    thing = Resource(action.partition(".")[0], resource) if isinstance(resource, str) else resource
    decider = SHIPPED
    question = decision.to_question(actor, action, thing, to, tx.now)
    answer = decider.answer(question)
    tx.session.info["policy_digest"] = decider.engine.digest
    if answer.outcome is not Outcome.ALLOW:
        raise _refusal(question, answer, decider.engine.digest)


def _refusal(question: Question, answer: Answer, digest: str) -> PolicyDenied:
    who = f"{'+'.join(sorted(question.roles)) or 'nobody'} {question.actor}"
    if answer.outcome is Outcome.STEP_UP:
        return StepUpRequired(
            f"{question.verb} wants a second factor that is not older than five minutes",
            remedy="show your second factor again, then repeat it",
            code="step_up_required",
            reasons=(),
            question=question,
            answer=answer,
            digest=digest,
        )
    return PolicyDenied(
        f"{who} may not {question.verb} on {question.resource}",
        remedy=f"see why: redoubt policy explain me {question.verb} {question.resource}",
        code="denied",
        reasons=tuple(constitution.MEANING[clause] for clause in answer.clauses),
        question=question,
        answer=answer,
        digest=digest,
    )
