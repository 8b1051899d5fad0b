from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RunState(StrEnum):
    """queued -> running <-> checkpointing -> requeued -> running ...; done, failed and stopped are the ends."""

    QUEUED = "queued"
    RUNNING = "running"
    CHECKPOINTING = "checkpointing"
    REQUEUED = "requeued"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


OVER = (RunState.DONE, RunState.FAILED, RunState.STOPPED)
STARTED = (RunState.RUNNING, RunState.CHECKPOINTING)


@dataclass(frozen=True)
class Why:
    """Why something is as it is, and what a person can do about it."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class RunFact:
    """What the settling rule needs of one run. `restarts` is that of the start that lives now, None when none does."""

    state: RunState
    restarts: int | None
    is_submitted: bool
    missing_since: datetime | None
    stop_asked: bool
    said_status: int | None = None
    refusal: str = ""
    share: str = ""
    project: str = ""


@dataclass(frozen=True)
class Promised:
    """A live job within a guarantee: how many runs of it wait, and how many run, each on so many GPUs."""

    share: str
    gpu_type: str
    gpus: int
    array: str
    waiting: int
    running: int


@dataclass(frozen=True)
class Keep:
    """Nothing changed."""


@dataclass(frozen=True)
class Miss:
    """The engine does not list it; what that means, time tells."""


@dataclass(frozen=True)
class Wait:
    """It waits in the engine. A start that lived is over, for `ended`."""

    why: Why
    ended: str = ""


@dataclass(frozen=True)
class Begin:
    """A start is there that we have not seen. One that lived before is over, for `ended`."""

    restarts: int
    ended: str = ""


@dataclass(frozen=True)
class End:
    """It is over."""

    state: RunState
    why: Why
    status: int | None


Step = Keep | Miss | Wait | Begin | End
