"""A ledger of a gateway's worker without its process: requests, time and the loop's turns by hand."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controlplane.contracts.snapshot import BudgetScope, BudgetUnit, SnapshotBudget, SnapshotShare
from controlplane.gateway.budget.accounts import Accounts
from controlplane.gateway.budget.budgets import Hold
from controlplane.gateway.budget.ledger import Ledger
from controlplane.gateway.budget.retries import Retries
from controlplane.gateway.directory import Directory, Terms, read_directory
from controlplane.gateway.errors import Refusal
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.request import NO_WORK, Request, Work
from controlplane.gateway.routes import SURFACES
from controlplane.gateway.shared_table import SharedTable
from tests.gateway.stage import KEY, key, snapshot

EMPTY = b'"messages":[{"role":"user","content":"x"}]}'  # how the tokens of a template are asked for
CHAT = b"/v1/chat/completions"
SHARE = SnapshotShare(name="blue", organisation="acme", project="blue")


def budget(
    unit: BudgetUnit = "completion_tokens",
    scope: BudgetScope = "project",
    share: str = "blue",
    *,
    budget_id: str = "",
    **more: Any,
) -> SnapshotBudget:
    name = f"budget_{scope}_{unit}"
    return SnapshotBudget(budget_id=budget_id or name, scope=scope, share=share, unit=unit, **more)


def directory_of(*budgets: SnapshotBudget, gpus: int = 0) -> Directory:
    made = snapshot(1, (), (key(KEY),))
    endpoints = tuple(endpoint.model_copy(update={"gpus": gpus}) for endpoint in made.endpoints)
    more = {"budgets": budgets, "shares": (SHARE,), "endpoints": endpoints}
    return read_directory(made.model_copy(update=more), {})


def request_of(
    directory: Directory, *, prompt: str = "hi", most: int | None = 40, work: Work = NO_WORK, began_s: float = 0, **more
) -> Request:
    """Return a chat request as a connection would make it."""
    body = {"model": "chat", "messages": [{"role": "user", "content": prompt}]} | more
    if most is not None:
        body["max_tokens"] = most
    return request_with(directory, json.dumps(body).encode(), work=work, began_s=began_s)


def request_with(
    directory: Directory,
    body: bytes,
    *,
    path: bytes = CHAT,
    work: Work = NO_WORK,
    began_s: float = 0,
) -> Request:
    surface = SURFACES[path]
    return Request(
        request_id=b"req_a",
        source="10.0.0.1",
        at_us=1,
        began_s=began_s,
        directory=directory,
        grant=next(iter(directory.grants.values())),
        terms=Terms("general", 1),
        work=work,
        surface=surface,
        ask=surface.read(body),
        body=body,
        endpoint=directory.endpoints["chat"],
    )


@dataclass
class Asked:
    """Who waits for a hold, and what became of it."""

    hold: Hold | None = None
    refusal: Refusal | None = None
    live: bool = True
    stopped: bool = False

    def cleared(self, hold: Hold) -> None:
        self.hold = hold

    def not_cleared(self, refusal: Refusal) -> None:
        self.refusal, self.live = refusal, False

    def renews(self) -> bool:
        return self.live

    def hold_over(self) -> None:
        self.stopped, self.live = True, False


@dataclass
class Time:
    """The loop's time and the wall's, moved together."""

    seconds: float = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_795_867_200 + self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def wall_s(self) -> float:
        return self.now().timestamp()


@dataclass
class Worker:
    """One life of a worker. `turns` are what the loop would do next; `counted` is what a replica's tokenizer says."""

    ledger: Ledger
    time: Time
    turns: list[Callable[[], None]] = field(default_factory=list)
    woken: int = 0
    counted: int | None = None
    counts: int = 0
    template: int | None = 20
    leaves: bool = False

    def clear(self, request: Request) -> Asked:
        asked = Asked()
        try:
            hold = self.ledger.clear(request, asked)
        except Refusal as refusal:
            asked.not_cleared(refusal)
        else:
            if hold is not None:
                asked.cleared(hold)
        self.run()
        return asked

    def run(self) -> None:
        while self.turns:
            self.turns.pop(0)()

    def move(self, seconds: float) -> None:
        self.time.seconds += seconds
        self.ledger.sweep(self.time.seconds)
        self.run()


def make_worker(table: Path, *, boot: str = "ab" * 16, workers: int = 1, time: Time | None = None) -> Worker:
    time = time or Time()
    accounts = Accounts(boot, workers=workers)
    worker: Worker

    def wake() -> None:
        worker.woken += 1

    def count(request: Request, heard: Callable[[int | None], None]) -> None:
        if request.body.endswith(EMPTY):
            heard(worker.template)
            return
        worker.counts += 1
        worker.turns.append(lambda: heard(worker.counted))

    turns: list[Callable[[], None]] = []
    ledger = Ledger(
        accounts,
        clock=time,
        now_s=time.monotonic,
        wake=wake,
        soon=turns.append,
        retries=Retries(SharedTable(table, buckets=16), time.wall_s),
        count=count,
        is_leaving=lambda: worker.leaves,
    )
    worker = Worker(ledger, time, turns)
    return worker


def used(tokens_in: int | None, tokens_out: int | None) -> Usage:
    return Usage(tokens_in=tokens_in, tokens_out=tokens_out, dispatched=True)
