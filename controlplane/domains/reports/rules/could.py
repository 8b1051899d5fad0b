"""Who could do what to an object: one question for each person and verb, for the policies to answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.contracts.reports import Could
from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import Outcome, Question, Resource
from controlplane.domains.reports.types import Person


@dataclass(frozen=True)
class Asked:
    """One question, and whom it is about."""

    person: Person
    question: Question


def to_questions(name: str, people: Sequence[Person], at: datetime, *, project: str = "") -> list[Asked]:
    """Return every verb of the object's kind for everybody who may sign in; each as with a second factor once shown."""
    kind, _, identity = name.partition("/")
    verbs = sorted(verb for verb in VERBS if verb.startswith(f"{kind}."))
    resource = Resource(kind, identity, project=project)
    return [
        Asked(person, _question(person, roles, verb, resource, at))
        for person in people
        if person.disabled_at is None and (roles := roles_at(person, at))
        for verb in verbs
    ]


def roles_at(person: Person, at: datetime) -> frozenset[Role]:
    """Return the roles held at a moment."""
    live = (
        span for span in person.roles if span.granted_at <= at and (span.revoked_at is None or span.revoked_at > at)
    )
    return frozenset(Role(span.role) for span in live)


def _question(person: Person, roles: frozenset[Role], verb: str, resource: Resource, at: datetime) -> Question:
    return Question(
        person.id, roles, person.project, verb, resource, second_factor=True, hour=at.hour, weekday=at.isoweekday()
    )


def to_could(asked: Sequence[Asked], outcomes: Sequence[Outcome]) -> list[Could]:
    """Return who may do something, with what they may do at once and what only after a fresh second factor."""
    may: dict[str, list[str]] = {}
    wants: dict[str, list[str]] = {}
    for one, outcome in zip(asked, outcomes, strict=True):
        if outcome is not Outcome.DENY:
            (may if outcome is Outcome.ALLOW else wants).setdefault(one.person.id, []).append(one.question.verb)
    return list(_rows(asked, may, wants))


def _rows(asked: Sequence[Asked], may: dict[str, list[str]], wants: dict[str, list[str]]) -> Iterator[Could]:
    people = {one.person.id: one for one in asked}
    for identity, one in people.items():
        if identity in may or identity in wants:
            yield Could(
                principal=identity,
                name=one.person.name,
                roles=tuple(sorted(one.question.roles)),
                verbs=tuple(may.get(identity, ())),
                needs_step_up=tuple(wants.get(identity, ())),
            )
