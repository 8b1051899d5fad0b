"""Ledgers of several gateways against the real control plane: whatever is lost, late or killed, nothing is overspent.

Every amount that was really used is counted here as well, from the outside, and compared after every step.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from controlplane.contracts.budgets import Allotment, AskAllotments
from controlplane.contracts.snapshot import BudgetScope, BudgetUnit, SnapshotBudget
from controlplane.contracts.spool import ShipSpool
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.budgets import service as budgets
from controlplane.domains.budgets.types import AccountView, Ask, Terms, Window
from controlplane.domains.metering import service as metering
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import AnyRecord, Chain, Closed, Intent, Opened, Outcome
from controlplane.gateway.request import Request, Work
from controlplane.kit.errors import RedoubtError
from tests.support.budgeted import Asked, Time, Worker, directory_of, make_worker, request_of
from tests.support.control_plane import ControlPlane

SEEDS = int(os.environ.get("REDOUBT_BUDGET_SEEDS", "12"))
STEPS = 160
LIMITS: dict[BudgetUnit, int] = {"prompt_tokens": 9_000, "completion_tokens": 700, "calls": 60}
BOUND: tuple[tuple[BudgetScope, str], ...] = (("project", ""), ("run", "*"))  # each with the name it is for


@dataclass
class Life:
    """One life of a gateway's worker: its ledger in memory, its spool on the disk."""

    gateway: str
    boot: str
    worker: Worker
    chain: Chain = field(default_factory=Chain)
    lines: list[str] = field(default_factory=list)
    shipped: int = 0
    running: dict[str, tuple[Request, Asked]] = field(default_factory=dict)
    waiting: list[tuple[Request, Asked]] = field(default_factory=list)

    def write(self, record: AnyRecord) -> None:
        self.lines.append(self.chain.add(record).decode())


class Site:
    """Several gateways and one control plane, and a network that loses and delays."""

    def __init__(self, plane: ControlPlane, table: Path, random: Random) -> None:
        self.plane = plane
        self.random = random
        self.table = table
        self.time = Time()
        self.limits: dict[str, int] = {}
        self.declared: tuple[SnapshotBudget, ...] = ()
        self.lives: list[Life] = []
        self.dead: list[Life] = []
        self.late: list[tuple[Life, AskAllotments]] = []
        self.used: Counter[str] = Counter()  # really, and for ever
        self.names = 0

    async def declare(self, limits: dict[BudgetUnit, int]) -> None:
        async with self.plane.database.transaction() as tx:
            for unit, most in limits.items():
                for scope, name in BOUND:
                    terms = Terms(scope, "redoubt", name, unit, Window.FIXED, most // (2 if name else 1), 0)
                    row = await budgets.create_budget(tx, SYSTEM_ADMIN, terms=terms)
                    self.limits[row.id] = terms.most
                    same = SnapshotBudget(budget_id=row.id, scope=scope, share="blue", name=name, unit=unit)
                    self.declared = (*self.declared, same)

    def start(self, gateway: str) -> Life:
        boot = f"{self.random.getrandbits(128):032x}"
        life = Life(gateway, boot, make_worker(self.table, boot=boot, time=self.time))
        life.write(Opened(at_us=1, node=gateway))
        self.lives.append(life)
        return life

    # --- what happens

    def ask_for_work(self, life: Life) -> None:
        directory = directory_of(*self.declared)
        run = self.random.choice(("", "r1", "r2"))
        prompt = "x" * self.random.randrange(200)
        most = self.random.choice((None, 1, 20, 90, 400))
        request = request_of(directory, prompt=prompt, most=most, work=Work(run=run))
        life.waiting.append((request, life.worker.clear(request)))
        self.take_up(life)

    def take_up(self, life: Life) -> None:
        """Write down the intents of those that were cleared."""
        life.worker.run()
        for request, asked in list(life.waiting):
            if asked.hold is not None:
                self.names += 1
                name = f"req_{self.names}"
                life.write(_intent(name, asked))
                life.running[name] = (request, asked)
            if asked.hold is not None or not asked.live:
                life.waiting.remove((request, asked))

    def end_work(self, life: Life) -> None:
        if not life.running:
            return
        name = self.random.choice(sorted(life.running))
        _, asked = life.running.pop(name)
        if asked.hold is None or asked.stopped:
            return
        asked.live = False
        held = dict(asked.hold.amounts)
        usage = self._usage(held)
        spent = asked.hold.settle(usage)
        assert all(amount <= held[account] for account, amount in spent)
        self.used.update(dict(spent))
        life.write(_outcome(name, spent))
        self.take_up(life)

    def _usage(self, held: dict[str, int]) -> Usage:
        def of(unit: str) -> int:
            ids = {budget.budget_id for budget in self.declared if budget.unit == unit}
            return min(amount for account, amount in held.items() if account.partition("/")[0] in ids)

        if self.random.random() < 0.15:
            return Usage()  # no replica ever heard of it
        if self.random.random() < 0.15:
            return Usage(dispatched=True)  # nobody told what it used
        part = self.random.choice((0.0, 0.3, 1.0))
        return Usage(int(of("prompt_tokens") * part), int(of("completion_tokens") * part), dispatched=True)

    def crash(self, life: Life) -> None:
        """The process is gone with all that it knew; another gets its spool and writes its end."""
        self.lives.remove(life)
        for name, (_, asked) in life.running.items():
            if asked.hold is not None and not asked.stopped:
                self.used.update(dict(asked.hold.amounts))
                life.write(_outcome(name, asked.hold.amounts))
        life.write(Closed(at_us=9))
        self.dead.append(life)
        self.start(life.gateway)

    async def ask(self, life: Life) -> None:
        """Ask for allotments over a network that may lose the ask or its answer, or deliver the ask much later."""
        ask = life.worker.ledger.ask()
        if ask is None:
            return
        fate = self.random.random()
        if fate < 0.1:
            self.late.append((life, ask))
        if fate < 0.2:
            life.worker.ledger.hear_nothing(ask.number)
        else:
            answers = await self.deliver(life, ask)
            if self.random.random() < 0.5:
                self.ask_for_work(life)  # while the answer is on its way
            if fate < 0.3 or answers is None:
                life.worker.ledger.hear_nothing(ask.number)
            else:
                life.worker.ledger.hear(ask.number, answers)
        self.take_up(life)

    async def deliver(self, life: Life, ask: AskAllotments) -> list[Allotment] | None:
        asks = [Ask(**one.model_dump()) for one in ask.accounts]
        try:
            async with self.plane.database.transaction() as tx:
                answers = await budgets.ask_allotments(
                    tx, Actor(life.gateway, Role.GATEWAY), boot=ask.boot, number=ask.number, asks=asks
                )
        except RedoubtError:
            return None
        return [
            Allotment(
                account=a.account, granted=v.granted, left=v.left, elsewhere=v.elsewhere, at_best=v.at_best, recall=r
            )
            for a, v, r in answers
        ]

    async def deliver_late(self) -> None:
        if self.late:
            life, ask = self.late.pop(self.random.randrange(len(self.late)))
            await self.deliver(life, ask)

    async def all_ask(self) -> None:
        await asyncio.gather(*(self.ask(life) for life in self.lives), self.fold_now())

    async def ship_a_dead_one(self) -> None:
        if self.dead:
            await self.ship(self.random.choice(self.dead))

    async def ship(self, life: Life) -> None:
        upto = self.random.randint(life.shipped, len(life.lines))
        await self.ship_to(life, upto)

    async def ship_to(self, life: Life, upto: int) -> None:
        shipped = ShipSpool(boot=life.boot, first=life.shipped, lines=tuple(life.lines[life.shipped : upto]))
        async with self.plane.database.transaction() as tx:
            await metering.take_spool(tx, Actor(life.gateway, Role.GATEWAY), shipped=shipped)
        life.shipped = upto

    async def fold(self) -> None:
        """Fold closed lives: nothing that anybody is told of a budget changes."""
        before = await self.views()
        await self.fold_now()
        assert await self.views() == before

    async def fold_now(self) -> None:
        async with self.plane.database.transaction() as tx:
            await budgets.fold_lives(tx, SYSTEM)

    async def views(self) -> list[tuple[AccountView, ...]]:
        async with self.plane.database.transaction() as tx:
            found = [await budgets.get_budget(tx, SYSTEM_ADMIN, budget_id=budget_id) for budget_id in self.limits]
        return [tuple(view for view in one.accounts if view.spent or view.allotted) for one in found]

    def pass_time(self) -> None:
        self.time.seconds += self.random.choice((0.3, 1.1, 5.0, 20.0, 70.0))
        for life in self.lives:
            for _, asked in life.running.values():
                if self.random.random() < 0.05:
                    asked.live = False  # a leak: nobody ends it, and nobody renews it either
            before = {name: asked.hold.amounts for name, (_, asked) in life.running.items() if asked.hold is not None}
            stopped = {name for name, (_, asked) in life.running.items() if asked.stopped}
            life.worker.ledger.sweep(self.time.seconds)
            for name, (_, asked) in list(life.running.items()):
                if asked.stopped and name not in stopped:
                    self.used.update(dict(before[name]))
                    life.write(_outcome(name, before[name]))
            self.take_up(life)

    # --- what must be true

    def check(self) -> None:
        in_use = Counter(self.used)
        for life in self.lives:
            for hold in life.worker.ledger.holds:
                in_use.update(dict(hold.amounts))
                assert hold.ends_at_s <= self.time.seconds + 60
                assert hold.ends_at_s > self.time.seconds - 70.1, "it outlived its time and the sweep after it"
        for account, amount in in_use.items():
            limit = self.limits[account.partition("/")[0]]
            assert amount <= limit, f"{account}: {amount} of {limit}"


SYSTEM_ADMIN = Actor("ada", Role.PLATFORM_ADMIN, roles=frozenset({Role.PLATFORM_ADMIN}))


def _intent(name: str, asked: Asked) -> Intent:
    assert asked.hold is not None
    return Intent(
        at_us=5, bytes_in=1, classification=1, endpoint="chat", held=asked.hold.amounts, key="key_a", policy="",
        project="redoubt", purpose="general", request=name, revision="r", secret="s", snapshot=1, source="10.0.0.1",
        streamed=False, zone="z",
    )  # fmt: skip


def _outcome(name: str, spent: tuple[tuple[str, int], ...]) -> Outcome:
    return Outcome(
        at_us=6, bytes_out=1, code="", duration_us=1, endpoint="chat", key="key_a", project="redoubt", replica="r",
        request=name, result="answered", spent=spent, status=200, tokens_in=None, tokens_out=None,
    )  # fmt: skip


async def one_step(site: Site) -> None:
    life = site.random.choice(site.lives)
    steps: dict[str, tuple[int, Callable[[], Awaitable[None] | None]]] = {
        "work": (30, lambda: site.ask_for_work(life)),
        "end": (24, lambda: site.end_work(life)),
        "ask": (16, lambda: site.ask(life)),
        "all ask": (4, site.all_ask),
        "ship": (8, lambda: site.ship(life)),
        "dead ship": (6, site.ship_a_dead_one),
        "late": (5, site.deliver_late),
        "time": (8, site.pass_time),
        "give back": (4, life.worker.ledger.accounts.give_back),
        "fold": (5, site.fold),
        "crash": (2, lambda: site.crash(life)),
    }
    (name,) = site.random.choices(list(steps), [weight for weight, _ in steps.values()])
    done = steps[name][1]()
    if done is not None:
        await done


async def everything_heals(site: Site) -> None:
    """All work ends, every spool is shipped, every life gives back what it does not use."""
    for life in site.lives:
        for _, asked in life.waiting:
            asked.live = False  # their clients have left
        while life.running:
            site.end_work(life)
        life.worker.ledger.sweep(site.time.seconds)
    for life in (*site.lives, *site.dead):
        await site.ship_to(life, len(life.lines))
    for life in list(site.lives):
        life.worker.ledger.accounts.give_back()
        ask = life.worker.ledger.ask()
        if ask is not None:
            assert await site.deliver(life, ask) is not None


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_committed_and_live_holds_never_pass_a_limit_and_nothing_is_lost_for_ever(
    plane: ControlPlane, tmp_path: Path, seed: int
):
    site = Site(plane, tmp_path / "retries", Random(seed))
    await site.declare(LIMITS)
    for gateway in ("gw1", "gw2", "gw3"):
        site.start(gateway)

    for _ in range(STEPS):
        await one_step(site)
        site.check()
    await everything_heals(site)
    await site.fold()

    async with plane.database.transaction() as tx:
        for budget_id in site.limits:
            view = await budgets.get_budget(tx, SYSTEM_ADMIN, budget_id=budget_id)
            for account in view.accounts:
                assert (account.spent, account.allotted) == (site.used[account.account], 0)
