"""A scheduler that keeps its promises in memory, can be away, refuse, and be changed by others."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from controlplane.domains.scheduler.rules.plan import key_of
from controlplane.domains.scheduler.types import Key, Thing
from controlplane.engines.scheduler import Account, Hand, Qos, Reservation, SchedulerState, UsedGpus
from controlplane.kit.errors import Unavailable


@dataclass
class TableScheduler:
    """`loses` are things that it takes and has lost when it is read; `refuses` those that it does not take."""

    things: dict[Key, Thing] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    hands: list[Hand] = field(default_factory=list)
    used: list[UsedGpus] = field(default_factory=list)
    loses: set[Key] = field(default_factory=set)
    refuses: set[Key] = field(default_factory=set)
    away: bool = False
    asked_since: list[datetime] = field(default_factory=list)

    async def read_state(self) -> SchedulerState:
        self._answer()
        found = list(self.things.values())
        return SchedulerState(
            tuple(thing for thing in found if isinstance(thing, Account)),
            tuple(thing for thing in found if isinstance(thing, Qos)),
            tuple(thing for thing in found if isinstance(thing, Reservation)),
            self.foreign,
        )

    async def make_so(self, wanted: SchedulerState, observed: SchedulerState) -> tuple[str, ...]:
        self._answer()
        things: list[Thing] = [*wanted.accounts, *wanted.qos, *wanted.reservations]
        new = {key_of(thing): thing for thing in things}
        failed = [f"{kind} {name}: no" for kind, name in self.refuses & new.keys() if (kind, name) not in self.things]
        kept = {key: self.things[key] for key in self.refuses & self.things.keys()}
        self.things = {
            k: v for k, v in {**new, **kept}.items() if k not in self.loses and (k not in self.refuses or k in kept)
        }
        if failed:
            raise Unavailable("not all was taken", remedy="wait", reasons=tuple(failed))
        return ()

    async def list_used(self, since: datetime) -> tuple[UsedGpus, ...]:
        self._answer()
        self.asked_since.append(since)
        return tuple(use for use in self.used if use.ended_at is None or use.ended_at > since)

    async def list_hands(self, since: datetime) -> tuple[Hand, ...]:
        self._answer()
        return tuple(hand for hand in self.hands if hand.at > since)

    def change(self, kind: str, name: str, **how: object) -> None:
        """Be another hand."""
        [key] = [key for key in self.things if key == (kind, name)]
        self.things[key] = replace(self.things[key], **how)  # type: ignore[arg-type]  # the test knows the fields

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("the scheduler is away", remedy="wait")
