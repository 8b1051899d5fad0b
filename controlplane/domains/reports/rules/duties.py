"""Duties that one person may not hold together, looked for in what was granted, whatever the database allowed."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import combinations

from controlplane.contracts.reports import Conflict, RoleSpan
from controlplane.domains.audit.types import Role
from controlplane.domains.reports.types import Event, Period, Person

WATCHES = "whoever watches does not act"
APART = "who runs the site does not also decide its policies"
ONESELF = "nobody grants himself a role"
TWO_PEOPLE = "nobody approves what they proposed"


def find_conflicts(person: Person, events: Sequence[Event], period: Period) -> tuple[Conflict, ...]:
    """Return every conflict that the period saw, oldest first."""
    found = [*_together(person.roles), *_granted_to_self(person), *_approved_own(person, events)]
    met = [one for one in found if period.meets(one.since, one.until)]
    return tuple(sorted(met, key=lambda one: (one.since, one.duties)))


def _together(spans: Sequence[RoleSpan]) -> Iterator[Conflict]:
    for one, other in combinations(spans, 2):
        why = _why_apart(one.role, other.role)
        both = _overlap(one, other)
        if why and both:
            first, second = sorted((one.role, other.role))
            yield Conflict(duties=(first, second), since=both[0], until=both[1], why=why)


def _why_apart(one: str, other: str) -> str:
    if one == other:
        return ""
    if Role.AUDITOR in (one, other):
        return WATCHES
    return APART if {one, other} == {Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN} else ""


def _overlap(one: RoleSpan, other: RoleSpan) -> tuple[datetime, datetime | None] | None:
    since = max(one.granted_at, other.granted_at)
    ends = [end for end in (one.revoked_at, other.revoked_at) if end is not None]
    until = min(ends) if ends else None
    return (since, until) if until is None or since < until else None


def _granted_to_self(person: Person) -> Iterator[Conflict]:
    for span in person.roles:
        if span.granted_by == person.id:
            yield Conflict(duties=(span.role, span.role), since=span.granted_at, until=span.revoked_at, why=ONESELF)


def _approved_own(person: Person, events: Sequence[Event]) -> Iterator[Conflict]:
    for event in events:
        if event.event == "approval.approved" and event.actor == person.id == event.details.get("proposed_by"):
            duties = ("approval.propose", "approval.decide")
            yield Conflict(duties=duties, since=event.at, until=event.at, why=TWO_PEOPLE)
