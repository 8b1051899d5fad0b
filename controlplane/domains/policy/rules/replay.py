"""What a change of policy would have answered to the questions that were asked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any  # a recorded question is JSON

from controlplane.domains.policy.rules.cedar import Engine
from controlplane.domains.policy.rules.decision import decide, digest_of, from_data
from controlplane.domains.policy.types import Answer, Question

MOST_GROUPS = 50


@dataclass(frozen=True)
class Recorded:
    """One row of what was decided; `times` is how often."""

    question: Mapping[str, Any]
    times: int


@dataclass
class Group:
    """Flips of one verb by one set of roles; `example` is the first met, so the newest."""

    example: Question
    before: Answer
    after: Answer
    times: int = 0


@dataclass
class Difference:
    """`replayed` and `flipped` count decisions, `distinct` different questions, `unreadable` rows of another shape."""

    replayed: int = 0
    distinct: int = 0
    unreadable: int = 0
    flipped: int = 0
    groups: list[Group] = field(default_factory=list)


def replay(now: Engine, then: Engine, recorded: Iterable[Recorded]) -> Difference:
    """Ask both sets every recorded question; a change between yes, no and step-up is a flip."""
    found, pairs, groups = Difference(), dict[str, tuple[Answer, Answer]](), dict[tuple[object, ...], Group]()
    for row in recorded:
        try:
            question = from_data(row.question)
        except (KeyError, TypeError, ValueError):
            found.unreadable += 1
            continue
        key = digest_of(question)
        if key not in pairs:
            pairs[key] = decide(now, question), decide(then, question)
        found.replayed += row.times
        _count(found, groups, question, pairs[key], row.times)
    found.distinct = len(pairs)
    found.groups = sorted(groups.values(), key=lambda group: -group.times)[:MOST_GROUPS]
    return found


def _count(
    found: Difference, groups: dict[tuple[object, ...], Group], question: Question, pair: tuple[Answer, Answer],
    times: int,
) -> None:  # fmt: skip
    before, after = pair
    if before.outcome is after.outcome:
        return
    found.flipped += times
    key = (question.verb, question.roles, before.outcome, after.outcome)
    groups.setdefault(key, Group(question, before, after)).times += times
