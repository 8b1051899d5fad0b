from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

BUILT_IN_PROJECT = "redoubt"  # the platform's own: no quota bounds it


class ShareKind(StrEnum):
    """Each is a part of the one before it."""

    ORGANISATION = "organisation"
    PROJECT = "project"
    TEAM = "team"


class Pool(StrEnum):
    """What work is for; nobody runs in `spare`, it stands in for nodes that are lost."""

    INFERENCE = "inference"
    TRAINING = "training"
    INTERACTIVE = "interactive"
    SPARE = "spare"


@dataclass(frozen=True)
class Share:
    """A part of the site. `chain` is itself and what it is a part of, up to its organisation.

    `project` and `user` are those that its work runs as: a team's are its project's, an organisation has none.
    `keeps_content` when it or what it is a part of was told so.
    """

    name: str
    kind: ShareKind
    parent: str
    chain: tuple[str, ...]
    project: str
    user: str
    slot: int | None
    weight: int
    archived: bool
    keeps_content: bool = False


@dataclass(frozen=True)
class Project:
    """`slot` numbers what a project has on every node: POSIX user, home and ports. The platform's own has none."""

    name: str
    organisation: str
    slot: int | None
    user: str
    archived: bool


@dataclass(frozen=True)
class Quota:
    """Whole GPUs of one type: `guaranteed` are never taken away by others, beyond `most` there are none."""

    share: str
    gpu_type: str
    guaranteed: int
    most: int


@dataclass(frozen=True)
class PoolTerms:
    """`max_gpus` are (type, most at once) over everybody, no entry is no limit; `project_most` bounds one project.

    Priorities are those of work within its guarantee and of work beyond it.
    """

    pool: Pool
    max_gpus: tuple[tuple[str, int], ...]
    max_time_s: int
    grace_s: int
    priority: int
    over_priority: int
    project_most: int | None


@dataclass(frozen=True)
class Window:
    """A reservation as placement sees it; `ends_at` None is for ever. `chosen` are the scheduler's for a number."""

    name: str
    kind: str
    starts_at: datetime
    ends_at: datetime | None
    nodes: tuple[str, ...] = ()
    node_count: int = 0
    accounts: tuple[str, ...] = field(default=())
    chosen: tuple[str, ...] = ()
