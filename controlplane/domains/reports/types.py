"""What the access report is made of, before it is made: facts as the other domains hand them over."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.contracts.reports import Authenticator, KeyUse, RoleSpan, SessionSpan


@dataclass(frozen=True)
class Event:
    """One event of the log, before its proof is attached."""

    event_id: str
    seq: int
    at: datetime
    actor: str
    role: str
    event: str
    resource: str
    details: Mapping[str, object]
    body: str = ""
    session: str = ""
    policy: str = ""


@dataclass(frozen=True)
class Person:
    """One principal and everything that is known of it, of all time; the report cuts out its period."""

    id: str
    name: str
    kind: str
    project: str
    created_at: datetime
    disabled_at: datetime | None
    roles: tuple[RoleSpan, ...] = ()
    authenticators: tuple[Authenticator, ...] = ()
    sessions: tuple[SessionSpan, ...] = ()
    keys: tuple[KeyUse, ...] = ()


@dataclass(frozen=True)
class Period:
    """From `began_at` up to, but not including, `ended_at`."""

    began_at: datetime
    ended_at: datetime

    def holds(self, at: datetime) -> bool:
        return self.began_at <= at < self.ended_at

    def meets(self, start: datetime, end: datetime | None) -> bool:
        """Say whether a span of time and the period have a moment in common."""
        return start < self.ended_at and (end is None or end > self.began_at)


@dataclass(frozen=True)
class Evidence:
    """Where an event lies in the log, and the proof (a C2SP tlog-proof) that it lies there."""

    leaf_index: int
    proof: str
