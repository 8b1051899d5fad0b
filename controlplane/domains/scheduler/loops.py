"""Bring the scheduler to what is wanted, and keep what it accounts for. Load, act through the port, apply."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.scheduler import store
from controlplane.domains.scheduler.rules.plan import compare, things_of, who
from controlplane.domains.scheduler.types import Drift, Key, Kind, Plan
from controlplane.domains.shares import service as shares
from controlplane.engines.scheduler import Hand, Scheduler, SchedulerState
from controlplane.kit.errors import Unavailable
from controlplane.kit.tx import Database, Tx

log = structlog.get_logger()

HANDS_SINCE = timedelta(days=1)


@dataclass(frozen=True)
class Step:
    """What one step does, and for whose asks."""

    plan: Plan
    asks: frozenset[str]


Wanted = Callable[[Tx], Awaitable[SchedulerState]]


class SchedulerLoop:
    """One step a call; the caller repeats it. One process of a site runs it."""

    def __init__(self, database: Database, scheduler: Scheduler, wanted: Wanted) -> None:
        self._database = database
        self._scheduler = scheduler
        self._wanted = wanted
        self._told_drift: frozenset[Drift] = frozenset()
        self._told_failures: tuple[str, ...] = ()

    async def step(self) -> None:
        """Read, compare, change what is ours, and read again. Raises Unavailable when the scheduler cannot be read."""
        observed = await self._read()
        step = await self._compare(observed)
        failures: tuple[str, ...] = ()
        if step.plan.touched:
            failures = await self._change(step.plan, observed)
            observed = await self._read()
        await self._settle(step, observed, failures)

    async def _read(self) -> SchedulerState:
        try:
            return await self._scheduler.read_state()
        except Unavailable as error:
            async with self._database.transaction() as tx:
                (await store.get_seen(tx)).error = error.detail
            raise

    async def _compare(self, observed: SchedulerState) -> Step:
        """Decide, and write down how things are that are as they ought to be: what differs later another hand did."""
        async with self._database.transaction() as tx:
            wanted, left = await self._wanted(tx), await store.list_left(tx)
            asks = await store.list_open_asks(tx)
            over = {_key(word) for ask in asks for word in ask.over}
            plan = compare(wanted, left, observed, tx.now, take_over=frozenset(over))
            asked, there = things_of(wanted, tx.now), things_of(observed, tx.now)
            drifted = {(drift.kind, drift.name) for drift in plan.drift}
            right = {k: v for k, v in there.items() if k in asked and k not in plan.touched and k not in drifted}
            await store.mark_left(tx, {key: thing for key, thing in right.items() if left.get(key) != thing})
            await store.forget_left(tx, {key for key in left if key not in asked and key not in there})
            return Step(plan, frozenset(ask.id for ask in asks))

    async def _change(self, plan: Plan, observed: SchedulerState) -> tuple[str, ...]:
        try:
            await self._scheduler.make_so(plan.target, observed)
        except Unavailable as error:
            return error.reasons or (error.detail,)
        return ()

    async def _settle(self, step: Step, observed: SchedulerState, failures: tuple[str, ...]) -> None:
        """Keep what was seen and done. What came out otherwise than asked is kept as ours, so that it is no drift."""
        plan = step.plan
        hands = await self._hands(plan)
        async with self._database.transaction() as tx:
            seen = await store.get_seen(tx)
            store.mark_seen(tx, seen, observed, hands)
            await shares.mark_chosen(tx, {kept.name: kept.chosen for kept in observed.reservations})
            seen.failures = list(failures)
            there, target = things_of(observed, tx.now), things_of(plan.target, tx.now)
            half = {key: there[key] for key in plan.touched if key in there and there[key] != target.get(key)}
            await store.mark_left(tx, half)
            for ask in await store.list_open_asks(tx):
                if ask.id in step.asks:
                    ask.done_at, ask.changes, ask.failures = tx.now, list(plan.changes), list(failures)
            await self._tell_changes(tx, plan, failures)
            await self._tell_drift(tx, plan, hands)

    async def _tell_changes(self, tx: Tx, plan: Plan, failures: tuple[str, ...]) -> None:
        """Record what was done; what goes on failing in the same way is recorded once."""
        if plan.touched and (not failures or failures != self._told_failures):
            event = "scheduler.failed" if failures else "scheduler.changed"
            await audit.record(tx, SYSTEM, event, "site", changes=list(plan.changes), failures=list(failures))
        self._told_failures = failures

    async def _hands(self, plan: Plan) -> tuple[Hand, ...]:
        """Ask who it was, when something drifted; not to know is no reason to stop."""
        if not plan.drift:
            return ()
        try:
            return await self._scheduler.list_hands(self._database.now() - HANDS_SINCE)
        except Unavailable as error:
            log.warning("scheduler.hands_unknown", error=error.detail)
            return ()

    async def _tell_drift(self, tx: Tx, plan: Plan, hands: tuple[Hand, ...]) -> None:
        """Record each drift once, when it is first seen."""
        new = [drift for drift in plan.drift if drift not in self._told_drift]
        self._told_drift = frozenset(plan.drift)
        for drift in new:
            by = who((drift.kind, drift.name), hands)
            await audit.record(
                tx, SYSTEM, "scheduler.drifted", f"{drift.kind} {drift.name}", what=drift.what, by=list(by)
            )


def _key(word: str) -> Key:
    kind, _, name = word.partition(" ")
    return Kind(kind), name
