from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.domains.shares.types import Pool, PoolTerms, Quota, Share, Window
from controlplane.kit.errors import Refused


@dataclass(frozen=True)
class Ask:
    """`count` whole GPUs on one node. `type` or `zone` "" means any one; `memory_bytes` is needed on each GPU.

    `apart` are nodes that hold copies already, one entry for each; `near` are nodes that have what the work loads.
    `time_s` is how long it wants to run, 0 as long as its pool lets it. The leases of `spared` owners are never ended
    for it.
    """

    count: int
    type: str
    memory_bytes: int
    zone: str = ""
    apart: tuple[str, ...] = ()
    near: frozenset[str] = frozenset()
    time_s: int = 0
    spared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LeaseFact:
    """A live lease as the rules see it; without `gpu_uuids` it is granted and the engine has not said which."""

    id: str
    owner: str
    share: str
    project: str
    pool: Pool
    qos: str
    preemptible: bool
    over_quota: bool
    gpu_type: str
    node: str
    count: int
    granted_at: datetime
    expires_at: datetime | None = None
    gpu_uuids: tuple[str, ...] = ()
    hidden: bool = False  # it is another project's, and a tenant asks

    @property
    def holder(self) -> str:
        return "another project's work" if self.hidden else f"{self.owner} of {self.share}, {self.qos}"


@dataclass(frozen=True, slots=True)
class GpuRoom:
    """One GPU: `reason` says why nobody may have it now, `lease` who has it."""

    uuid: str
    island: str
    reason: str = ""
    lease: LeaseFact | None = None


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """The GPUs of one node that are alike. `reason` is set when the node takes no work at all.

    `free` counts what has neither reason nor lease, less what is granted here and not yet taken; `owed` is how much
    more is granted than that, so that something will be preempted for it. `sound` counts what has no reason; `islands`
    are (free, all) of each island.
    """

    node: str
    zone: str
    type: str
    memory_bytes: int
    gpus: tuple[GpuRoom, ...]
    free: int
    owed: int
    sound: int
    islands: tuple[tuple[int, int], ...]
    reason: str = ""
    windows: tuple[Window, ...] = ()
    declared: bool = True


@dataclass(frozen=True)
class Used:
    """GPUs in live leases: of each share with all its parts, those within guarantees, of each pool and its projects."""

    all: Mapping[tuple[str, str], int] = field(default_factory=dict)
    guaranteed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pools: Mapping[tuple[str, str], int] = field(default_factory=dict)
    projects: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """For whom is asked: a share with what it is a part of, its pool, what bounds it and what is in use.

    What `yields` runs as work beyond its guarantee though it may be within; what is `firm` must be within. `tells` is
    the project of a tenant who asks and reads nothing of others.
    """

    chain: tuple[str, ...]
    project: str
    terms: PoolTerms
    quotas: Mapping[tuple[str, str], Quota]
    used: Used
    yields: bool = False
    firm: bool = False
    tells: str = ""


@dataclass(frozen=True)
class Site:
    """What a decision is made on, as it is in one transaction."""

    shares: Mapping[str, Share]
    terms: Mapping[Pool, PoolTerms]
    quotas: Mapping[tuple[str, str], Quota]
    leases: tuple[LeaseFact, ...]
    rooms: tuple[NodeRoom, ...]


@dataclass(frozen=True)
class Verdict:
    """What shares and pools say of one type of GPU; `code` is "" when they allow it."""

    over_quota: bool = False
    code: str = ""
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Placement:
    """Nodes on which the ask fits, best first; the engine picks. `preempts` are leases that end on the first one."""

    nodes: tuple[str, ...]
    gpu_type: str
    over_quota: bool = False
    preempts: tuple[LeaseFact, ...] = ()
    time_limit_s: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why each node says no, what would make it fit, and the nearest thing that would fit as it is."""

    reasons: tuple[str, ...]
    remedy: str
    code: str = "no_fit"
    would_fit: tuple[str, ...] = ()

    def to_error(self, asked: str) -> Refused:
        reasons = (*self.reasons, *(f"it fits when {way}" for way in self.would_fit))
        return Refused(f"{asked} cannot be had", remedy=self.remedy, code=self.code, reasons=reasons)


@dataclass(frozen=True)
class Admission:
    """How work that was let in is run: on GPUs of this one type, at most until shortly before the next reservation."""

    share: str
    pool: Pool
    account: str
    partition: str
    qos: str
    user: str
    over_quota: bool
    preemptible: bool
    avoid_nodes: tuple[str, ...]
    time_limit_s: int
    placement: Placement | None  # None: it waits in the engine's queue
    gpu_type: str = ""


@dataclass(frozen=True)
class GpuVerdict:
    """What was found of one GPU: `taken`, `free`, `preemptible` or `rejected`, and why."""

    node: str
    uuid: str
    type: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Explanation:
    """What would happen to an ask now. Nothing is changed by it."""

    fits: bool
    nodes: tuple[str, ...]
    qos: str
    over_quota: bool
    preempts: tuple[LeaseFact, ...]
    time_limit_s: int
    code: str
    reasons: tuple[str, ...]
    would_fit: tuple[str, ...]
    remedy: str
    gpus: tuple[GpuVerdict, ...]
