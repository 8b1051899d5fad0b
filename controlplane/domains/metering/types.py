"""Where a gateway's spool stands with the control plane."""

from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from controlplane.contracts.spool import FIRST_PREV
from controlplane.kit.errors import Conflict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SpoolGap(Conflict):
    """Lines are missing before the ones that came."""

    kind = "spool_gap"


class SpoolBroken(Conflict):
    """A line is not what the chain of its spool says."""

    kind = "spool_broken"


@dataclass(frozen=True)
class Place:
    """The place after the last line that was taken."""

    next_seq: int = 0
    last_sha256: str = FIRST_PREV


@dataclass(frozen=True)
class Spent:
    """What one life of a worker has spent of one account, by the lines that were taken."""

    account: str
    gateway: str
    boot: str
    spent: int


def from_us(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


class UsageOf(StrEnum):
    """What requests are added up by. `SHARE` is the project or team of the key."""

    SHARE = "share"
    WORKFLOW = "workflow"
    AGENT = "agent"
    KEY = "key"
    ENDPOINT = "endpoint"
    MODEL = "model"
    ZONE = "zone"
    RUN = "run"
    DAY = "day"
    HOUR = "hour"


@dataclass(frozen=True)
class Reach:
    """Between which times requests are counted.

    From `known_since` on single ones (of a run) or hours (of all else) are kept; hours before are told by whole days.
    """

    since: datetime
    until: datetime
    known_since: datetime


@dataclass(frozen=True)
class Part:
    """Sums to read: those of one span ("hour", "day") that begin between two times."""

    span: str
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Requests:
    """Requests added up. Times are microseconds; `untold` are those whose replica told no tokens."""

    calls: int = 0
    failures: int = 0
    untold: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_reasoning: int = 0
    gpu_us: int = 0
    queue_us: int = 0
    duration_us: int = 0
    ttft_us: int = 0
    ttft_calls: int = 0

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class After:
    """The row that a page of ranked requests follows: most tokens first, then by key; time by key alone."""

    tokens: int
    key: str


@dataclass(frozen=True)
class Ranked:
    """Requests added up, in the order of their ranking; `more` rows follow."""

    rows: tuple[tuple[str, Requests], ...]
    more: int


@dataclass(frozen=True)
class UsedTime:
    """What the starts of one run on one node used within a time that was asked for; `running` are those not over."""

    account: str
    gpu_type: str
    node: str
    name: str
    gpu_seconds: int
    starts: int
    running: int
