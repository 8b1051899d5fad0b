"""A small site's month: three people, one of whom did what nobody should."""

from datetime import UTC, datetime, timedelta

from controlplane.contracts.reports import (
    AccessReport,
    Authenticator,
    Checkpoint,
    Could,
    KeyUse,
    RoleSpan,
    SessionSpan,
)
from controlplane.domains.reports.rules.compose import Heading, compose
from controlplane.domains.reports.types import Event, Evidence, Period, Person

START = datetime(2026, 4, 1, tzinfo=UTC)
PERIOD = Period(START, START + timedelta(days=30))
NOTE = "site.example/log\n3\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— site.example/log AAAAAAAA\n"
CHECKPOINT = Checkpoint(size=3, note=NOTE, signer="site.example/log+abcd+AAAA")
HEADING = Heading("testsite", PERIOD.ended_at, "user_audrey", "ab" * 32, CHECKPOINT)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def event(number: int, actor: str, what: str, resource: str, role: str = "operator", **details: object) -> Event:
    return Event(
        f"evt_{number}",
        number,
        day(number % 30),
        actor,
        role,
        what,
        resource,
        details,
        body=f'{{"event_id":"evt_{number}"}}',
    )


def span(role: str, start: float, end: float | None = None, by: str = "user_root") -> RoleSpan:
    return RoleSpan(
        role=role,
        granted_by=by,
        granted_at=day(start),
        revoked_by=None if end is None else "user_root",
        revoked_at=None if end is None else day(end),
    )


def person(name: str, *roles: RoleSpan, **more: object) -> Person:
    known: dict[str, object] = {
        "id": f"user_{name}",
        "name": name,
        "kind": "user",
        "project": "",
        "created_at": day(-100),
        "disabled_at": None,
        "roles": roles,
    }
    return Person(**{**known, **more})  # type: ignore[arg-type]  # fields of Person


ADA = person(
    "ada",
    span("platform-admin", -60),
    span("operator", -60, 20),
    authenticators=(
        Authenticator(kind="totp", since=day(-60)),
        Authenticator(kind="passkey", name="blue", since=day(3)),
    ),
    sessions=(
        SessionSpan(
            id="ses_1", client="cli", methods=("password", "totp"), source="10.0.0.7", began_at=day(2), seen_at=day(2.3)
        ),
    ),
    keys=(
        KeyUse(
            id="key_1",
            name="chat app",
            project="blue",
            classification=2,
            zones=("north",),
            created_at=day(1),
            expires_at=day(300),
            revoked_at=None,
            last_used_at=day(9),
            live=True,
        ),
    ),
)
MALLORY = person("mallory", span("security-admin", -10, 12), span("platform-admin", 5, None, by="user_mallory"))
SLEEPER = person("sleeper", span("operator", -99))
EVENTS = [
    event(2, "user_ada", "endpoint.created", "chat", zone="north"),
    event(3, "user_ada", "request.denied", "/api/v1/policy-sets", code="denied"),
    event(4, "user_ada", "session.started", "ses_1"),
    event(6, "user_mallory", "approval.approved", "approval_1", role="security-admin", proposed_by="user_mallory"),
    event(7, "user_mallory", "node.declared", "gpu1", role="break-glass"),
    event(9, "key_1", "inference.completed", "chat", role="gateway", classification=2, zone="north"),
]
EVIDENCE = {one.event_id: Evidence(number, f"proof of {one.event_id}") for number, one in enumerate(EVENTS[:-1])}
COULD = {
    "endpoint/chat": [Could(principal="user_ada", name="ada", roles=("operator",), verbs=("endpoint.read",))],
}


def a_report() -> AccessReport:
    return compose(HEADING, PERIOD, [ADA, MALLORY, SLEEPER], COULD, EVENTS, EVIDENCE)
