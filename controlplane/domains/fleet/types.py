from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class NodeState(StrEnum):
    """`silent`: no report lately. `degraded`: reports, and a declared GPU is missing or lost."""

    READY = "ready"
    DEGRADED = "degraded"
    SILENT = "silent"
    NEVER_SEEN = "never-seen"
    UNDECLARED = "undeclared"


class GpuState(StrEnum):
    PRESENT = "present"
    LOST = "lost"
    MISSING = "missing"


@dataclass(frozen=True)
class DeclaredGpus:
    """`type` is the site's word, lower case ("h100"); a card's full name contains it."""

    type: str
    count: int


@dataclass(frozen=True)
class DeclaredNode:
    name: str
    address: str
    zone: str
    purposes: tuple[str, ...]
    gpus: tuple[DeclaredGpus, ...]


@dataclass(frozen=True)
class SeenGpu:
    uuid: str
    node: str
    name: str
    memory_total_bytes: int
    state: GpuState


@dataclass(frozen=True)
class NodeView:
    """What a person wants to know of a node at three in the morning."""

    name: str
    zone: str
    address: str
    state: NodeState
    reasons: tuple[str, ...]
    last_report_at: datetime | None
    gpus: tuple[SeenGpu, ...]
