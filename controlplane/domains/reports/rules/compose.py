"""The access report from facts: data in, report out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.contracts import reports as shapes
from controlplane.domains.audit.types import Role
from controlplane.domains.reports.rules.duties import find_conflicts
from controlplane.domains.reports.types import Event, Evidence, Period, Person

DORMANT_DAYS = 90  # AC-2(3) leaves the number to the organisation; ours is the reference report's
ROUTINE = frozenset({"session", "inference", "request", "access_report", "factor"})  # nouns that are no privilege
UNLABELLED = "unlabelled (counts as the most restrictive)"
LABEL_PARTS = ("classification", "jurisdiction", "zone", "project")


@dataclass(frozen=True)
class Heading:
    """What stands above the lines."""

    site: str
    made_at: datetime
    made_by: str
    policy_digest: str
    checkpoint: shapes.Checkpoint | None


def compose(
    heading: Heading,
    period: Period,
    people: Sequence[Person],
    objects: Mapping[str, Sequence[shapes.Could]],
    events: Sequence[Event],
    evidence: Mapping[str, Evidence],
    *,
    cut_short: bool = False,
) -> shapes.AccessReport:
    """Return the report; `events` are the period's, oldest first; `cut_short`: older ones were too many."""
    within = [event for event in events if period.holds(event.at)]
    return shapes.AccessReport(
        site=heading.site,
        made_at=heading.made_at,
        made_by=heading.made_by,
        began_at=period.began_at,
        ended_at=period.ended_at,
        policy_digest=heading.policy_digest,
        checkpoint=heading.checkpoint,
        principals=tuple(report_person(person, period, within, evidence) for person in people),
        objects=tuple(report_object(name, could, within, evidence) for name, could in objects.items()),
        not_covered=tuple(not_covered(within, evidence, cut_short=cut_short, has_objects=bool(objects))),
    )


def report_person(
    person: Person, period: Period, events: Sequence[Event], evidence: Mapping[str, Evidence]
) -> shapes.PrincipalReport:
    mine = [event for event in events if event.actor == person.id]
    about = [event for event in events if person.id in (event.actor, event.resource)]
    seen = last_seen(person, mine, period)
    return shapes.PrincipalReport(
        id=person.id,
        name=person.name,
        kind=person.kind,
        project=person.project,
        created_at=person.created_at,
        disabled_at=person.disabled_at,
        last_seen_at=seen,
        dormant_days=dormant_days(person, seen, period.ended_at),
        roles=tuple(span for span in person.roles if period.meets(span.granted_at, span.revoked_at)),
        authenticators=tuple(one for one in person.authenticators if one.since < period.ended_at),
        sessions=tuple(one for one in person.sessions if period.meets(one.began_at, one.ended_at or one.seen_at)),
        keys=tuple(key for key in person.keys if period.meets(key.created_at, key.revoked_at)),
        privileged=_lines(filter(is_privileged, mine), evidence),
        denials=_lines(filter(is_denial, mine), evidence),
        break_glass=_lines(filter(is_break_glass, about), evidence),
        touched=touched(mine),
        conflicts=find_conflicts(person, mine, period),
    )


def report_object(
    name: str, could: Sequence[shapes.Could], events: Sequence[Event], evidence: Mapping[str, Evidence]
) -> shapes.ObjectReport:
    about = [event for event in events if concerns(event, name)]
    return shapes.ObjectReport(object=name, could=tuple(could), did=_did(about), events=_lines(about, evidence))


def concerns(event: Event, name: str) -> bool:
    """Say whether an event is about `kind/id`: its resource is that id, or it names it so in its details."""
    kind, _, identity = name.partition("/")
    noun = event.event.partition(".")[0]
    if event.details.get(kind) == identity:
        return True
    about = noun == kind or (noun, kind) == ("inference", "endpoint")
    return about and not is_denial(event) and identity in (event.resource, event.details.get("name"))


def is_denial(event: Event) -> bool:
    return event.event in ("request.denied", "policy.disputed") or event.event.endswith((".refused", ".denied"))


def is_break_glass(event: Event) -> bool:
    return event.role == Role.BREAK_GLASS or event.event.startswith("break_glass.")


def is_privileged(event: Event) -> bool:
    """Say whether an event is the use of a privilege: something was changed that is not one's own session."""
    return not is_denial(event) and event.event.partition(".")[0] not in ROUTINE


def last_seen(person: Person, mine: Sequence[Event], period: Period) -> datetime | None:
    """Return when the principal last did anything before the period's end."""
    times = [
        *(session.seen_at for session in person.sessions),
        *(event.at for event in mine),
        *(key.last_used_at for key in person.keys if key.last_used_at is not None),
        *(one.last_used_at for one in person.authenticators if one.last_used_at is not None),
    ]
    return max((at for at in times if at < period.ended_at), default=None)


def dormant_days(person: Person, seen: datetime | None, at: datetime) -> int | None:
    """Return for how long an account that could still be used was not; None while that is less than 90 days."""
    holds = any(span.granted_at < at and (span.revoked_at is None or span.revoked_at > at) for span in person.roles)
    if (person.disabled_at is not None and person.disabled_at <= at) or not (holds or any(k.live for k in person.keys)):
        return None
    days = (at - (seen or person.created_at)).days
    return days if days >= DORMANT_DAYS else None


def touched(events: Iterable[Event]) -> tuple[shapes.Touched, ...]:
    """Count what was done to labelled data; an event that names neither label nor zone touched none."""
    groups: dict[tuple[str, str], list[datetime]] = {}
    for event in events:
        label = label_of(event)
        if label:
            groups.setdefault((label, event.event), []).append(event.at)
    return tuple(
        shapes.Touched(label=label, event=name, times=len(times), first_at=min(times), last_at=max(times))
        for (label, name), times in sorted(groups.items())
    )


def label_of(event: Event) -> str:
    """Return the label in words, "" for an event that is not about data."""
    parts = [f"{part} {event.details[part]}" for part in LABEL_PARTS if event.details.get(part) not in (None, "")]
    if parts:
        return ", ".join(parts)
    return UNLABELLED if event.event.partition(".")[0] in ("inference", "dataset", "collection") else ""


def not_covered(
    events: Sequence[Event], evidence: Mapping[str, Evidence], *, cut_short: bool, has_objects: bool
) -> Iterable[str]:
    """Say what a reader may not conclude."""
    unsealed = sum(event.event_id not in evidence for event in events)
    if unsealed:
        yield f"{unsealed} events have no inclusion proof: no checkpoint covers them yet; ask again in ten seconds"
    if cut_short:
        yield "only the newest events of the period are listed; choose a shorter period, one principal or one object"
    if has_objects:
        yield "who could is by the policies in force when this was made, not by those of every moment of the period"
    yield "denials of callers whom nobody knew are counts by source in the log, not lines here"
    yield "the platform's own services read their database without an event for each row"
    yield "what a person with root on a node does below the platform is not in this log"


def _did(events: Sequence[Event]) -> tuple[shapes.Did, ...]:
    groups: dict[tuple[str, str], list[datetime]] = {}
    for event in events:
        groups.setdefault((event.actor, event.event), []).append(event.at)
    return tuple(
        shapes.Did(actor=actor, event=name, times=len(times), first_at=min(times), last_at=max(times))
        for (actor, name), times in sorted(groups.items())
    )


def _lines(events: Iterable[Event], evidence: Mapping[str, Evidence]) -> tuple[shapes.Line, ...]:
    return tuple(_line(event, evidence.get(event.event_id)) for event in events)


def _line(event: Event, found: Evidence | None) -> shapes.Line:
    return shapes.Line(
        event_id=event.event_id,
        at=event.at,
        actor=event.actor,
        role=event.role,
        event=event.event,
        resource=event.resource,
        session=event.session,
        policy=event.policy,
        label=label_of(event),
        leaf_index=None if found is None else found.leaf_index,
        entry=event.body,
        proof="" if found is None else found.proof,
    )
