"""What one event says, in one byte form; what of it is personal; what may be dropped when."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import digest
from typing import Any  # JSON values have no narrower type

from controlplane.domains.audit.types import Actor, Personal
from controlplane.kit.canonical import canonical_json

VERSION = 1
LONGEST_TEXT = 4096  # of one detail, in characters
LONGEST_EVENT = 60_000  # bytes; an entry of C2SP tlog-tiles holds 65,535
LONGEST = {"actor": 120, "event": 80, "resource": 200}  # what the columns hold
LEAST_MONTHS = 6  # AI Act, Article 19(1) and 26(6)
PERSONS = frozenset({"user", "principal", "role"})
PERSONAL_NAMES = frozenset({"source", "email", "address_of_client", "user_agent", "full_name", "display_name"})


@dataclass(frozen=True)
class Surrounding:
    """What the process and the transaction know of the event; the caller of `record` need not say it."""

    at: datetime
    node: str = ""
    boot_id: str = ""
    request: str = ""
    policy_digest: str = ""
    approvals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Composed:
    """One event: the entry of the log, and the side record that the entry commits to (empty: nothing personal)."""

    event_id: str
    body: str
    details: dict[str, Any]
    personal: str


def compose(
    event_id: str,
    actor: Actor,
    event: str,
    resource: str,
    details: Mapping[str, object],
    *,
    around: Surrounding,
    key: bytes,
) -> Composed:
    """Write an event down. `key` is the side record's own: without it the commitments in the entry say nothing."""
    named = _personal_names(event, details)
    shown = {k: clean(v) for k, v in details.items() if k not in named}
    personal = {k: clean(v.value if isinstance(v, Personal) else v) for k, v in details.items() if k in named}
    if actor.source:
        personal["source"] = clean(actor.source)
    side = canonical_json(personal).decode() if personal else ""
    entry = {
        "v": VERSION,
        "event_id": event_id,
        "ts": to_text(around.at),
        "node": clean(around.node),
        "boot_id": clean(around.boot_id),
        "actor": _actor(actor),
        "source": commit(key, "source", actor.source) if actor.source else "",
        "action": cut(clean_text(event), LONGEST["event"]),
        "object": cut(clean_text(resource), LONGEST["resource"]),
        "decision": {"result": result_of(event)[0], "policy": clean(around.policy_digest)},
        "request": clean(around.request),
        "result": result_of(event)[1],
        "approvals": [clean(approval) for approval in around.approvals],
        "personal": commit(key, "personal", side) if side else "",
        "details": shown,
    }
    body = canonical_json(entry)
    if len(body) > LONGEST_EVENT:
        entry["details"] = shown = {"cut": len(body), "sha256": sha256(body).hexdigest()}
        body = canonical_json(entry)
    return Composed(event_id, body.decode(), shown, side)


def commit(key: bytes, what: str, text: str) -> str:
    """Return the HMAC-SHA-256 that stands for `text` in the log; whoever has the key can check a guess, nobody else."""
    return digest(key, f"{what}\n{text}".encode(), "sha256").hex()


def result_of(event: str) -> tuple[str, str]:
    """Return the policy's answer and how the act ended; an event's last word says both."""
    word = event.rpartition(".")[2]
    if word in ("denied", "refused"):
        return "deny", "denied"
    return "allow", "failed" if word in ("failed", "anomaly") else "ok"


def clean(value: object) -> Any:
    """Return a value as the log writes it: text in NFC, whole numbers, no floats, nothing that a database refuses."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return cut(clean_text(value), LONGEST_TEXT)
        case Mapping():
            return {clean_text(str(k)): clean(v) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            items = sorted(map(str, value)) if isinstance(value, set | frozenset) else value
            return [clean(item) for item in items]
        case datetime():
            return to_text(value)
        case _:
            return cut(clean_text(str(value)), LONGEST_TEXT)


def clean_text(text: str) -> str:
    """Normalise, and replace what UTF-8 or PostgreSQL cannot hold. Line feeds and the like are escaped by JSON."""
    whole = text.encode("utf-8", "replace").decode()
    return unicodedata.normalize("NFC", whole).replace("\0", "\N{REPLACEMENT CHARACTER}")


def cut(text: str, longest: int) -> str:
    """Shorten a text, and say so in it."""
    if len(text) <= longest:
        return text
    ending = f"… (cut, {len(text)} characters, sha256 {sha256(text.encode()).hexdigest()})"
    return text[: max(longest - len(ending), 0)] + ending[-longest:]


def to_text(at: datetime) -> str:
    """Return a time as the log writes it: UTC to the microsecond."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def months_before(at: datetime, months: int) -> datetime:
    """Return a time that is that many months earlier at least, whatever their lengths."""
    return at - timedelta(days=31 * months)


def is_step(wall: timedelta, passed: timedelta) -> bool:
    """Say whether the clock was set: it went back, or more than a second off what really passed."""
    return wall < timedelta(0) or abs(wall - passed) > timedelta(seconds=1)


def _personal_names(event: str, details: Mapping[str, object]) -> frozenset[str]:
    """Return which details tell who a person is; the name of a thing does not, that of a person does."""
    names = PERSONAL_NAMES | ({"name"} if event.partition(".")[0] in PERSONS else frozenset())
    return frozenset(k for k, v in details.items() if k in names or isinstance(v, Personal))


def _actor(actor: Actor) -> dict[str, Any]:
    return {
        "id": cut(clean_text(actor.id), LONGEST["actor"]),
        "role": actor.role.value,
        "roles": sorted(role.value for role in actor.roles),
        "project": clean(actor.project),
        "session": clean(actor.session),
        "method": clean(actor.method),
    }
