"""The report as tables of words, the same for CSV, HTML and PDF."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.contracts.reports import AccessReport, Line, ObjectReport, PrincipalReport

Row = tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """One table. `lines` are the events behind the rows, one each, or none when a row is no single event."""

    title: str
    head: Row
    rows: tuple[Row, ...]
    lines: tuple[Line, ...] = ()


def instant(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%SZ")


def short_note(note: str) -> str:
    """Return a checkpoint with the log's own signature alone: what a QR code holds, however many witnesses signed."""
    body, mark, signatures = note.partition("\n\n")
    return body + mark + signatures.split("\n", 1)[0] + "\n"


def findings(report: AccessReport) -> list[str]:
    """Return what a reader should look at first."""
    return [text for person in report.principals for text in _findings(person)]


def _findings(person: PrincipalReport) -> Iterator[str]:
    for conflict in person.conflicts:
        one, other = conflict.duties
        what = one if one == other else f"{one} and {other}"
        yield f"{person.name}: {what} since {instant(conflict.since)}: {conflict.why}"
    if person.break_glass:
        yield f"{person.name}: break-glass was used: {len(person.break_glass)} on record"
    if person.dormant_days is not None:
        yield f"{person.name}: could sign in, and has not for {person.dormant_days} days"
    if len(person.denials) >= 10:
        yield f"{person.name}: {len(person.denials)} denials"


def list_person(person: PrincipalReport) -> list[Listing]:
    """Return the tables of one principal; empty ones too, because "none" is an answer."""
    return [
        Listing(
            "Roles",
            ("role", "granted", "by", "revoked", "by"),
            tuple(
                (s.role, instant(s.granted_at), s.granted_by, instant(s.revoked_at), s.revoked_by or "")
                for s in person.roles
            ),
        ),
        Listing(
            "Authenticators",
            ("kind", "name", "since", "last used"),
            tuple((a.kind, a.name, instant(a.since), instant(a.last_used_at)) for a in person.authenticators),
        ),
        Listing(
            "Sessions",
            ("session", "client", "methods", "source", "began", "last seen", "ended", "why"),
            tuple(
                (
                    s.id,
                    s.client,
                    "+".join(s.methods),
                    s.source,
                    instant(s.began_at),
                    instant(s.seen_at),
                    instant(s.ended_at),
                    s.why,
                )
                for s in person.sessions
            ),
        ),
        Listing(
            "Keys",
            ("key", "name", "project", "classification", "zones", "made", "ends", "last used", "state"),
            tuple(
                (
                    k.id,
                    k.name,
                    k.project,
                    str(k.classification),
                    " ".join(k.zones),
                    instant(k.created_at),
                    instant(k.revoked_at or k.expires_at),
                    instant(k.last_used_at),
                    "live" if k.live else "ended",
                )
                for k in person.keys
            ),
        ),
        Listing(
            "Duty conflicts",
            ("duties", "since", "until", "why"),
            tuple((" and ".join(c.duties), instant(c.since), instant(c.until), c.why) for c in person.conflicts),
        ),
        Listing(
            "Data touched, by label",
            ("label", "event", "times", "first", "last"),
            tuple((t.label, t.event, str(t.times), instant(t.first_at), instant(t.last_at)) for t in person.touched),
        ),
        list_events("Privileged actions", person.privileged),
        list_events("Denials", person.denials),
        list_events("Break-glass", person.break_glass),
    ]


def list_object(report: ObjectReport) -> list[Listing]:
    return [
        Listing(
            "Who could",
            ("principal", "name", "roles", "may", "may with a fresh second factor"),
            tuple(
                (c.principal, c.name, " ".join(c.roles), " ".join(c.verbs), " ".join(c.needs_step_up))
                for c in report.could
            ),
        ),
        Listing(
            "Who did",
            ("actor", "event", "times", "first", "last"),
            tuple((d.actor, d.event, str(d.times), instant(d.first_at), instant(d.last_at)) for d in report.did),
        ),
        list_events("Events", report.events),
    ]


def list_events(title: str, lines: Sequence[Line]) -> Listing:
    head = ("time", "event", "on", "by", "as", "label", "leaf", "event id")
    rows = tuple(
        (instant(e.at), e.event, e.resource, e.actor, e.role, e.label,
         "not sealed yet" if e.leaf_index is None else str(e.leaf_index), e.event_id)
        for e in lines
    )  # fmt: skip
    return Listing(title, head, rows, tuple(lines))
