from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from controlplane.domains.metering.types import Reach, Requests
from controlplane.engines.scheduler import Account, Qos, Reservation, SchedulerState

Thing: TypeAlias = Account | Qos | Reservation


class Kind(StrEnum):
    """What a scheduler keeps for us, in its own words."""

    ACCOUNT = "account"
    QOS = "qos"
    RESERVATION = "reservation"


Key: TypeAlias = tuple[Kind, str]
Things: TypeAlias = Mapping[Key, Thing]


@dataclass(frozen=True)
class Drift:
    """Something of ours that another hand changed. `hands` are what the scheduler tells of who did, if anything."""

    kind: Kind
    name: str
    what: str
    hands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What to make of the scheduler's state: `target` differs from what it has in `changes` alone, never in drift.

    `touched` are the things that are changed.
    """

    target: SchedulerState
    changes: tuple[str, ...]
    touched: frozenset[Key]
    drift: tuple[Drift, ...]


@dataclass(frozen=True)
class Situation:
    """The whole of it, as a person sees it. `observed_at` is None until the scheduler was read once."""

    wanted: SchedulerState
    observed: SchedulerState
    observed_at: datetime | None
    plan: Plan
    error: str
    failures: tuple[str, ...]


@dataclass(frozen=True)
class UsageRow:
    """GPU time of one project, type, node or run. `starts` counts every start by itself."""

    key: str
    gpu_seconds: int
    starts: int
    running: int


class UsageBy(StrEnum):
    PROJECT = "project"
    TYPE = "type"
    NODE = "node"
    JOB = "job"


class RequestsBy(StrEnum):
    """What requests of inference are added up by."""

    PROJECT = "project"
    TEAM = "team"
    WORKFLOW = "workflow"
    AGENT = "agent"
    RUN = "run"
    MODEL = "model"
    ENDPOINT = "endpoint"
    KEY = "key"
    ZONE = "zone"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True)
class RequestsReport:
    """Requests of one grouping between two times, as gateways told of them; "" is what nobody named.

    `more` rows follow those of this page; `after` says where, None at the end.
    """

    by: RequestsBy
    project: str
    reach: Reach
    rows: tuple[tuple[str, Requests], ...]
    more: int
    after: str | None


@dataclass(frozen=True)
class UsageReport:
    """Rows of one grouping between two times. `known_until` is when the accounting was last asked."""

    by: UsageBy
    project: str
    since: datetime
    until: datetime
    known_until: datetime | None
    rows: tuple[UsageRow, ...]
