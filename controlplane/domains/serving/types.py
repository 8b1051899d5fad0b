from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ReplicaState(StrEnum):
    """wanted -> starting -> loading -> ready -> draining -> ended; failed and lost end it early."""

    WANTED = "wanted"
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"
    FAILED = "failed"
    LOST = "lost"


LIVE = (ReplicaState.WANTED, ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.READY)
OVER = (ReplicaState.ENDED, ReplicaState.FAILED, ReplicaState.LOST)
REGISTERED = (ReplicaState.LOADING, ReplicaState.READY, ReplicaState.DRAINING)


@dataclass(frozen=True)
class ReplicaFact:
    """What the planning rule needs of one replica; what `yields` is above the floor."""

    id: str
    revision_id: str
    state: ReplicaState
    ended_at: datetime | None
    ready_at: datetime | None = None
    yields: bool = False
    time_limit_s: int = 7 * 24 * 3600
    started_at: datetime | None = None
    closes_at: datetime | None = None  # when maintenance of its node begins


@dataclass(frozen=True)
class ReplicaPlan:
    """What to change for one endpoint: how many replicas to add, and which to drain."""

    add: int
    drain: tuple[str, ...]
    wait_reason: str = ""
