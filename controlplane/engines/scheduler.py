"""The scheduler port: what a scheduler is told of shares, limits and reservations, and what it says was used."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class Account:
    """A share of the site: an organisation, a project or a team. `gpus` are (type, most at once); no entry, no limit.

    `users` are the POSIX users that may run on it. `weight` is its part of the fair share among its siblings.
    """

    name: str
    parent: str  # "" directly under the site
    users: tuple[str, ...] = ()
    gpus: tuple[tuple[str, int], ...] = ()
    weight: int = 1


@dataclass(frozen=True)
class Qos:
    """A class of work. It may preempt the classes in `preempts`; what it preempts gets `grace_s` seconds of theirs."""

    name: str
    priority: int
    preempts: tuple[str, ...] = ()
    grace_s: int = 0
    requeues: bool = True
    gpus: tuple[tuple[str, int], ...] = ()  # (type, most at once) over all accounts
    usage_permille: int = 1000  # how much of what it uses counts against the fair share


class ReservationKind(StrEnum):
    """`maintenance`: nobody runs there. `guaranteed`: its accounts alone. `spare`: a node that is lost is replaced."""

    MAINTENANCE = "maintenance"
    GUARANTEED = "guaranteed"
    SPARE = "spare"


@dataclass(frozen=True)
class Reservation:
    """`nodes` by name, or `node_count` of them of the scheduler's choice. `ends_at` None is for ever.

    `chosen` are the nodes that the scheduler took for a count; what is wanted says nothing of them.
    """

    name: str
    kind: ReservationKind
    starts_at: datetime
    ends_at: datetime | None
    nodes: tuple[str, ...] = ()
    node_count: int = 0
    accounts: tuple[str, ...] = ()
    chosen: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class SchedulerState:
    """What a scheduler knows, or ought to. `foreign` is what there is that we did not make, each "KIND NAME: WORDS"."""

    accounts: tuple[Account, ...] = ()
    qos: tuple[Qos, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class UsedGpus:
    """What one start of a run used, as the scheduler accounts for it. A run that was requeued has several."""

    ref: str
    name: str
    account: str
    user: str
    partition: str
    gpu_type: str
    gpus: int
    node: str
    started_at: datetime
    ended_at: datetime | None
    state: str


@dataclass(frozen=True)
class Hand:
    """Somebody else changed something. `what` is the scheduler's own words, which may name the thing by a number."""

    at: datetime
    who: str
    what: str


class Scheduler(Protocol):
    """Each call is safe to repeat; all raise Unavailable, never an empty guess."""

    async def read_state(self) -> SchedulerState:
        """Return what the scheduler has now."""
        ...

    async def make_so(self, wanted: SchedulerState, observed: SchedulerState) -> tuple[str, ...]:
        """Change what is ours from `observed` to `wanted`; return in words what was changed.

        What it cannot do does not keep it from the rest: it is in the reasons of the Unavailable raised at the end.
        """
        ...

    async def list_hands(self, since: datetime) -> tuple[Hand, ...]:
        """Return what others than we changed after `since`, as far as the scheduler writes that down."""
        ...

    async def list_used(self, since: datetime) -> tuple[UsedGpus, ...]:
        """Return every start that was alive after `since`."""
        ...
