"""One answer from two: Cedar's policies and the constitution. Both must say yes."""

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any  # a recorded question is JSON

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.policy.rules import cedar, constitution
from controlplane.domains.policy.types import MACHINES, Answer, Outcome, Place, Question, Resource
from controlplane.kit.canonical import canonical_json, sha256_hex

STRONG_FOR = timedelta(minutes=5)
CLOCKS_APART = timedelta(seconds=5)  # between two nodes of a site that keeps time
MOST_ANSWERS = 4096


class Decider:
    """A loaded policy set with its newest answers. The key of an answer is the full digest of question and policy."""

    def __init__(self, engine: cedar.Engine) -> None:
        self.engine = engine
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def answer(self, question: Question) -> Answer:
        """Return the answer; what was answered lately is not asked again."""
        key = f"{digest_of(question)}{self.engine.digest}"
        known = self._answers.get(key)
        if known is None:
            known = self._answers[key] = decide(self.engine, question)
            if len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(key)
        return known


def decide(engine: cedar.Engine, question: Question) -> Answer:
    """Ask both; a dangerous verb then wants a person's second factor."""
    verb = engine.verbs.get(question.verb)
    clauses = constitution.forbidden(question, verb)
    if verb is None:
        return Answer(Outcome.DENY, clauses=clauses)
    verdict = cedar.ask(engine, question)
    disputed = verdict.allowed and bool(clauses)
    allowed = verdict.allowed and not clauses
    if not allowed:
        return Answer(Outcome.DENY, verdict.policies, clauses, verdict.errors, disputed)
    wanting = verb.dangerous and not question.stepped_up and not question.roles & MACHINES
    return Answer(Outcome.STEP_UP if wanting else Outcome.ALLOW, verdict.policies)


def to_question(actor: Actor, verb: str, resource: Resource, to: Place | None, now: datetime) -> Question:
    """Return what is asked, with nothing in it that the answer does not depend on."""
    return Question(
        actor=actor.id,
        roles=actor.roles,
        project=actor.project,
        verb=verb,
        resource=resource,
        second_factor=actor.strong_at is not None,
        stepped_up=is_stepped_up(actor.strong_at, now),
        method=actor.method,
        source=actor.source,
        hour=now.hour,
        weekday=now.isoweekday(),
        to=to,
    )


def is_stepped_up(strong_at: datetime | None, now: datetime) -> bool:
    """Say whether a second factor was shown lately; a time in the future is a clock that went back, and no proof."""
    return strong_at is not None and -CLOCKS_APART <= now - strong_at <= STRONG_FOR


def to_data(question: Question) -> dict[str, Any]:
    """Return the question as canonical JSON's values; `from_data` is its inverse."""
    resource, to = question.resource, question.to
    return {
        "actor": question.actor,
        "roles": sorted(question.roles),
        "project": question.project,
        "verb": question.verb,
        "resource": [
            resource.kind, resource.id, resource.project, resource.zone, resource.classification,
            sorted(resource.jurisdictions),
        ],
        "second_factor": question.second_factor,
        "stepped_up": question.stepped_up,
        "method": question.method,
        "source": question.source,
        "hour": question.hour,
        "weekday": question.weekday,
        "to": None if to is None else [to.zone, to.jurisdiction, to.clearance],
    }  # fmt: skip


def from_data(data: Mapping[str, Any]) -> Question:
    """Return a recorded question."""
    kind, name, project, zone, classification, jurisdictions = data["resource"]
    resource = Resource(kind, name, project, zone, classification, frozenset(jurisdictions))
    return Question(
        actor=data["actor"],
        roles=frozenset(Role(role) for role in data["roles"]),
        project=data["project"],
        verb=data["verb"],
        resource=resource,
        second_factor=data["second_factor"],
        stepped_up=data["stepped_up"],
        method=data["method"],
        source=data["source"],
        hour=data["hour"],
        weekday=data["weekday"],
        to=None if data["to"] is None else Place(*data["to"]),
    )


def digest_of(question: Question) -> str:
    return sha256_hex(canonical_json(to_data(question)))
