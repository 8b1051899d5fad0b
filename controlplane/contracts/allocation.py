"""Shapes of shares, quotas, pools, reservations, leases, and of what an ask would get."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.admin import Lease, Name, ShareName
from controlplane.contracts.strict import Answer, Strict

Kind = Literal["organisation", "project", "team"]
PoolName = Literal["inference", "training", "interactive", "spare"]
UsedPool = Literal["inference", "training", "interactive"]
GpuType = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$", description="a type of GPU, such as h100")]
MANY = 100_000


class CreateShare(Strict):
    """`parent` is the organisation of a project, or the project of a team; `weight` its part among its siblings."""

    kind: Kind
    name: ShareName
    parent: ShareName | Literal[""] = ""
    weight: int = Field(default=1, ge=1, le=1000)


class SetShare(Strict):
    """`keeps_content` lets gateways keep files and results of batches."""

    keeps_content: bool


class Share(Answer):
    """`user` is the POSIX user of its work, `slot` the number of what a project has on every node."""

    name: str
    kind: str
    parent: str
    project: str
    user: str
    slot: int | None
    weight: int
    archived: bool
    keeps_content: bool = False


class SetQuota(Strict):
    guaranteed: int = Field(ge=0, le=MANY)
    most: int = Field(ge=0, le=MANY)


class Quota(Answer):
    """Whole GPUs: `guaranteed` are taken away by nobody else, beyond `most` there are none."""

    share: str
    gpu_type: str
    guaranteed: int
    most: int


class SetPool(Strict):
    """What is null stays as it is; `unbounded` names the limits that go: "project_most" or a type of GPU."""

    max_gpus: dict[GpuType, Annotated[int, Field(ge=0, le=MANY)]] | None = Field(default=None, max_length=100)
    max_time_s: int | None = Field(default=None, ge=60, le=365 * 86400)
    grace_s: int | None = Field(default=None, ge=0, le=3600)
    priority: int | None = Field(default=None, ge=0, le=1900)
    over_priority: int | None = Field(default=None, ge=0, le=1900)
    project_most: int | None = Field(default=None, ge=0, le=MANY)
    unbounded: tuple[str, ...] = Field(default=(), max_length=100)


class Pool(Answer):
    """`max_gpus` bound everybody together, `project_most` one project; times in seconds."""

    name: str
    max_gpus: dict[str, int]
    max_time_s: int
    grace_s: int
    priority: int
    over_priority: int
    project_most: int | None


class CreateReservation(Strict):
    """`nodes` by name, or `node_count` of any. `starts_at` null is now, `ends_at` null for ever."""

    name: Name
    kind: Literal["maintenance", "guaranteed", "spare"]
    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    nodes: tuple[Name, ...] = Field(default=(), max_length=1000)
    node_count: int = Field(default=0, ge=0, le=10_000)
    accounts: tuple[ShareName, ...] = Field(default=(), max_length=100)
    reason: str = Field(default="", max_length=400)


class Reservation(Answer):
    name: str
    kind: str
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None
    nodes: tuple[str, ...]
    node_count: int
    chosen: tuple[str, ...] = ()
    accounts: tuple[str, ...]
    reason: str
    made_by: str


class LeaseDetail(Lease):
    """A lease with the GPUs that it has, or had."""

    gpu_uuids: tuple[str, ...] = ()


class GpuVerdict(Answer):
    """What was found of one GPU: free, preemptible or rejected, and why."""

    node: str
    uuid: str
    type: str
    verdict: str
    reason: str


class Explanation(Answer):
    """What an ask would get now. `preempts` names whose leases would end; `gpus` has a verdict for every GPU."""

    fits: bool
    nodes: tuple[str, ...]
    qos: str
    over_quota: bool
    preempts: tuple[str, ...]
    time_limit_s: int
    code: str
    reasons: tuple[str, ...]
    would_fit: tuple[str, ...]
    remedy: str
    gpus: tuple[GpuVerdict, ...]
