"""What would change an answer: one thing at a time, then two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules.cedar import Engine
from controlplane.domains.policy.rules.decision import decide
from controlplane.domains.policy.types import MACHINES, Outcome, Place, Question

MOST_CHANGES = 12


@dataclass(frozen=True)
class Step:
    """One thing that could be otherwise: `about` is what it changes, so that two steps never change the same.

    It is not worth saying if the step with the words of `unless` does it.
    """

    about: str
    words: str
    given: tuple[tuple[str, object], ...]
    unless: str = ""


@dataclass(frozen=True)
class Change:
    words: str
    outcome: Outcome


def changes(engine: Engine, question: Question) -> list[Change]:
    """Return the smallest changes after which the answer is another one: single ones if there are, else pairs."""
    before = decide(engine, question).outcome
    steps = list(_steps(question))
    single = _flips(engine, question, before, [(step,) for step in steps])
    if single or before is not Outcome.DENY:
        return single[:MOST_CHANGES]
    pairs = [pair for pair in combinations(steps, 2) if pair[0].about != pair[1].about]
    return _flips(engine, question, before, pairs)[:MOST_CHANGES]


def _flips(engine: Engine, question: Question, before: Outcome, tried: Sequence[tuple[Step, ...]]) -> list[Change]:
    found: dict[str, Change] = {}
    for steps in tried:
        if any(step.unless in found for step in steps):
            continue
        outcome = decide(engine, _apply(question, steps)).outcome
        if outcome is not before:
            words = " and ".join(step.words for step in steps)
            found[words] = Change(words, outcome)
    return list(found.values())


def _apply(question: Question, steps: tuple[Step, ...]) -> Question:
    for step in steps:
        for name, value in step.given:
            if name.startswith("resource."):
                question = replace(question, resource=replace(question.resource, **{name[9:]: value}))  # type: ignore[arg-type]  # the steps below pair names with their types
            else:
                question = replace(question, **{name: value})  # type: ignore[arg-type]  # the same
    return question


def _steps(question: Question) -> Iterator[Step]:
    yield from _roles(question)
    if not question.stepped_up:
        yield Step("factor", "with a second factor shown now", (("stepped_up", True), ("second_factor", True)))
    else:
        yield Step("factor", "without a second factor", (("stepped_up", False), ("second_factor", False)))
    yield from _projects(question)
    yield from _places(question)
    if question.resource.id != question.actor:
        yield Step("resource", "asked about oneself", (("resource.id", question.actor),))
    for hour in _hours(question):
        yield Step("time", f"at {hour:02}:00 UTC", (("hour", hour),))


def _roles(question: Question) -> Iterator[Step]:
    for role in sorted(set(Role) - question.roles - MACHINES):
        yield Step("roles", f"with the role {role} too", (("roles", question.roles | {role}),))
        if question.roles:
            yield Step("roles", f"as {role} instead", (("roles", frozenset({role})),), f"with the role {role} too")
    for role in sorted(question.roles):
        yield Step("roles", f"without the role {role}", (("roles", question.roles - {role}),))


def _projects(question: Question) -> Iterator[Step]:
    owner = question.resource.project
    if question.project != owner:
        words = f"as a principal of project {owner}" if owner else "as a principal of the site"
        yield Step("project", words, (("project", owner),))
        yield Step("project", "on something of the same project", (("resource.project", question.project),))


def _places(question: Question) -> Iterator[Step]:
    resource, to = question.resource, question.to
    if to is None:
        return
    if resource.zone and to.zone != resource.zone:
        yield Step("place", f"to zone {resource.zone}", (("to", replace(to, zone=resource.zone)),))
    for country in sorted(resource.jurisdictions - {to.jurisdiction}):
        yield Step("place", f"to a zone in {country}", (("to", replace(to, jurisdiction=country)),))
    if to.clearance < resource.classification:
        higher = Place(to.zone, to.jurisdiction, resource.classification)
        yield Step("clearance", f"to a zone cleared for {resource.classification}", (("to", higher),))


def _hours(question: Question) -> Iterator[int]:
    """Yield a few times of the day; a policy of hours answers differently at one of them."""
    yield from (hour for hour in range(0, 24, 3) if hour != question.hour)
