from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """`type` is the site's word, lower case ("h100"); `mig` are the profiles that each of the GPUs is cut into."""

    type: str
    count: int
    mig: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeclaredNode:
    name: str
    address: str
    zone: str
    purposes: tuple[str, ...]
    gpus: tuple[DeclaredGpus, ...]


@dataclass(frozen=True)
class Zone:
    """A declared part of the site: its ISO 3166 code, and the highest classification of data there, 0 to 3."""

    name: str
    jurisdiction: str
    clearance: int


@dataclass(frozen=True)
class SeenGpu:
    """A GPU as its node last told of it. `type` is the site's word, `index` NVML's, `minor` that of /dev/nvidiaN.

    `island` is the same for GPUs of a node that reach each other over NVLink. `mig` has the profile of each instance;
    None: MIG is off.
    """

    uuid: str
    node: str
    name: str
    memory_total_bytes: int
    state: GpuState
    type: str = ""
    index: int = 0
    minor: int | None = None
    island: int | None = None
    numa: int | None = None
    mig: tuple[str, ...] | None = None
    vbios: str = ""

    @property
    def device(self) -> int:
        """The number by which the engine calls it."""
        return self.index if self.minor is None else self.minor


@dataclass(frozen=True)
class GpuCordon:
    """Why a GPU takes no new work, who said so, and when.

    `exposed`: it is idle and nothing holds it yet, so that an engine may give it to whatever starts on its node.
    """

    reason: str
    owner: str
    at: datetime
    exposed: bool = False


@dataclass(frozen=True)
class HeldGpu:
    """A run that holds a GPU so that nobody gets it. `device` is None until the engine has started it."""

    run: str
    node: str
    device: int | None
    is_late: bool = False  # it has waited too long: something that is not ours has the GPU


@dataclass(frozen=True)
class HoldPlan:
    """`start` are (node, type of GPU); `stop` are runs; `give_up` are nodes that are left alone for a while."""

    start: tuple[tuple[str, str], ...] = ()
    stop: tuple[str, ...] = ()
    give_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class GpuView:
    """A GPU with all that is known of it; `reading` is what its agent last told."""

    gpu: SeenGpu
    cordon: GpuCordon | None
    reading: Mapping[str, object]
    seen_at: datetime


@dataclass(frozen=True)
class NodeView:
    """What a person wants to know of a node at three in the morning.

    `differences` are those from its declaration and from its peers, also such as leave it ready.
    """

    name: str
    zone: str
    address: str
    state: NodeState
    reasons: tuple[str, ...]
    last_report_at: datetime | None
    gpus: tuple[SeenGpu, ...]
    differences: tuple[str, ...] = ()
    driver: str = ""
    cordons: Mapping[str, GpuCordon] = field(default_factory=dict)  # by UUID
