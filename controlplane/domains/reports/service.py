"""The access report: read by an auditor, exported by two people. Either is on record."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.contracts.reports import (
    AccessReport,
    AskReport,
    Authenticator,
    Checkpoint,
    Could,
    ExportReport,
    KeyUse,
    RoleSpan,
    SessionSpan,
)
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.tables import AuditEvent
from controlplane.domains.audit.types import Actor
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.types import FactorsHeld
from controlplane.domains.identity.service import evidence as identity
from controlplane.domains.identity.service.evidence import Everybody
from controlplane.domains.identity.tables import Principal, Session
from controlplane.domains.keys import service as keys
from controlplane.domains.keys.tables import InferenceKey
from controlplane.domains.policy import service as policy
from controlplane.domains.reports.rules.compose import Heading, compose, concerns
from controlplane.domains.reports.rules.could import to_could, to_questions
from controlplane.domains.reports.types import Event, Evidence, Period, Person
from controlplane.kit.errors import BadInput, NotFound
from controlplane.kit.paging import MOST_ROWS, Page
from controlplane.kit.tx import Tx

MOST_EVENTS = 2000
LONGEST_PERIOD = timedelta(days=800)


async def read_access_report(tx: Tx, actor: Actor, *, ask: AskReport, site: str) -> AccessReport:
    """Return the report to somebody who may read every one; that it was read is an event itself."""
    await policy.require(tx, actor, "access_report.read", subject_of(ask))
    report = await _make(tx, actor, ask, site)
    await audit.record(tx, actor, "access_report.read", subject_of(ask), **_period(ask))
    return report


async def export_access_report(tx: Tx, actor: Actor, *, ask: ExportReport, site: str) -> AccessReport:
    """Return the report for a file that leaves the platform: a second person approved exactly this one."""
    await policy.require(tx, actor, "access_report.export", subject_of(ask))
    await policy.spend_approval(tx, actor, ask.approval, "access_report.export", approval_subject(ask))
    report = await _make(tx, actor, ask, site)
    await audit.record(tx, actor, "access_report.exported", subject_of(ask), format=ask.format, **_period(ask))
    return report


def subject_of(ask: AskReport) -> str:
    return ask.object or ask.principal or "site"


def approval_subject(ask: ExportReport) -> dict[str, object]:
    """Return what an approval of an export is about: every word of it."""
    return {"subject": subject_of(ask), "format": ask.format, **_period(ask)}


def _period(ask: AskReport) -> dict[str, str]:
    return {"began_at": ask.began_at.isoformat(), "ended_at": ask.ended_at.isoformat()}


async def _make(tx: Tx, actor: Actor, ask: AskReport, site: str) -> AccessReport:
    period = _check(ask)
    everybody = await identity.read_everybody(
        tx, actor, named=ask.principal, began_at=period.began_at, ended_at=period.ended_at
    )
    if ask.principal and not everybody.principals:
        raise NotFound(f"no principal {ask.principal}", remedy="redoubt user list")
    people = await _people(tx, actor, everybody, period)
    events = await _events(tx, ask, everybody, period)
    could, digest = await _could(tx, actor, ask, people)
    shown = [] if ask.object else people
    checkpoint, evidence = await _evidence(tx, _that_are_listed(events, ask, shown))
    heading = Heading(site, tx.now, actor.id, digest, checkpoint)
    cut = len(events) > MOST_EVENTS
    return compose(heading, period, shown, could, events[-MOST_EVENTS:], evidence, cut_short=cut)


def _check(ask: AskReport) -> Period:
    if ask.principal and ask.object:
        raise BadInput("a report is of a principal or of an object", remedy="ask for one, then for the other")
    if not timedelta(0) < ask.ended_at - ask.began_at <= LONGEST_PERIOD:
        raise BadInput("the period has no days, or too many", remedy=f"give at most {LONGEST_PERIOD.days} days")
    return Period(ask.began_at, ask.ended_at)


async def _people(tx: Tx, actor: Actor, everybody: Everybody, period: Period) -> list[Person]:
    made = await _keys(tx, actor, period.ended_at)
    return [
        _person(row, everybody, await factors.list_factors(tx, actor, principal_id=row.id), made.get(row.id, []))
        for row in everybody.principals
    ]


def _person(row: Principal, everybody: Everybody, held: FactorsHeld, made: list[KeyUse]) -> Person:
    sessions = {s.id: s for s in everybody.sessions if s.principal_id == row.id}
    if row.id in everybody.last:
        sessions.setdefault(everybody.last[row.id].id, everybody.last[row.id])
    grants = [grant for grant in everybody.grants if grant.principal_id == row.id]
    return Person(
        id=row.id,
        name=row.name,
        kind=row.kind,
        project=row.project,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        roles=tuple(RoleSpan.model_validate(grant, from_attributes=True) for grant in grants),
        authenticators=tuple(_authenticators(held)),
        sessions=tuple(_session(session) for session in sorted(sessions.values(), key=lambda s: s.created_at)),
        keys=tuple(made),
    )


def _authenticators(held: FactorsHeld) -> list[Authenticator]:
    found = [
        Authenticator(kind="passkey", name=key.name, since=key.created_at, last_used_at=key.last_used_at)
        for key in held.passkeys
    ]
    if held.totp_since is not None:
        found.insert(0, Authenticator(kind="totp", since=held.totp_since))
    if held.password_set_at is not None:
        left = f"{held.recovery_codes_left} recovery codes left"
        found.insert(0, Authenticator(kind="password", name=left, since=held.password_set_at))
    return found


def _session(row: Session) -> SessionSpan:
    return SessionSpan(
        id=row.id,
        client=row.client,
        methods=tuple(row.methods),
        source=row.source,
        began_at=row.created_at,
        seen_at=row.seen_at,
        ended_at=row.revoked_at,
        why=row.revoked_why,
    )


async def _keys(tx: Tx, actor: Actor, at: datetime) -> dict[str, list[KeyUse]]:
    made: dict[str, list[KeyUse]] = {}
    after: str | None = None
    while True:
        rows = await keys.list_keys(tx, actor, page=Page(MOST_ROWS, after))
        for row in rows:
            made.setdefault(row.made_by, []).append(_key(row, at))
        if len(rows) < MOST_ROWS:
            return made
        after = rows[-1].id


def _key(row: InferenceKey, at: datetime) -> KeyUse:
    used = [secret.last_used_at for secret in row.secrets if secret.last_used_at is not None]
    live = [secret for secret in row.secrets if secret.ended_at is None and secret.expires_at > at]
    return KeyUse(
        id=row.id,
        name=row.name,
        project=row.project,
        classification=row.classification,
        zones=tuple(row.zones),
        created_at=row.created_at,
        expires_at=max((secret.expires_at for secret in row.secrets), default=None),
        revoked_at=row.revoked_at,
        last_used_at=max(used, default=None),
        live=row.revoked_at is None and bool(live),
    )


async def _events(tx: Tx, ask: AskReport, everybody: Everybody, period: Period) -> list[Event]:
    """Return the period's events, oldest first, and one more than is listed if there are more."""
    about = None
    if ask.object:
        about = [ask.object.partition("/")[2]]
    elif ask.principal:
        about = [row.id for row in everybody.principals]
    found = await audit.list_period(
        tx, began_at=period.began_at, ended_at=period.ended_at, about=about, limit=MOST_EVENTS + 1
    )
    return [_event(row) for row in reversed(found)]


def _event(row: AuditEvent) -> Event:
    entry = json.loads(row.body) if row.body else {}
    return Event(
        row.event_id,
        row.seq,
        row.at,
        row.actor,
        row.role,
        row.event,
        row.resource,
        row.details,
        body=row.body,
        session=entry.get("actor", {}).get("session", ""),
        policy=entry.get("decision", {}).get("policy", ""),
    )


def _that_are_listed(events: Sequence[Event], ask: AskReport, people: Sequence[Person]) -> list[str]:
    """Return the ids of the events that the report may show: a proof of any other would be work for nothing."""
    ids = {person.id for person in people}
    return [
        event.event_id
        for event in events
        if event.actor in ids or event.resource in ids or (ask.object is not None and concerns(event, ask.object))
    ]


async def _could(
    tx: Tx, actor: Actor, ask: AskReport, people: Sequence[Person]
) -> tuple[Mapping[str, Sequence[Could]], str]:
    asked = to_questions(ask.object, people, tx.now) if ask.object else []
    answers, digest = await policy.answer_all(tx, actor, questions=[one.question for one in asked])
    if ask.object is None:
        return {}, digest
    return {ask.object: to_could(asked, [answer.outcome for answer in answers])}, digest


async def _evidence(tx: Tx, event_ids: Sequence[str]) -> tuple[Checkpoint | None, dict[str, Evidence]]:
    found, note, placed = await audit.prove_all(tx, event_ids)
    if found is None:
        return None, {}
    evidence = {event_id: Evidence(place.leaf_index, place.proof) for event_id, place in placed.items()}
    return Checkpoint(size=found.size, note=note, signer=found.signer), evidence
