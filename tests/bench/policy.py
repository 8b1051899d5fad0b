"""What a policy decision costs, beside a raw call of Cedar and an indexed SELECT on the same machine in the same run.

`python -m tests.bench.policy [--json]`. Goal: p99 of a decision that is in no cache, at 66 policies, at most 0.5 ms.
A decision waits for nothing, so its time is that of its thread's CPU; what asks the database is timed on the clock.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cedarpy
from sqlalchemy import text

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.rules import cedar, decision, shipped
from controlplane.domains.policy.rules.replay import Recorded, replay
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import Question, Resource
from controlplane.kit.clock import SystemClock
from controlplane.kit.tx import Database
from tests.support.database import migrate, running_server

POLICIES = 66
TIMES = 5_000
REPLAYED = 10_000
GOAL_P99_MS = 0.5
MORE = '@id("site-{n}") forbid (principal in Role::"operator", action == Action::"endpoint.create", resource)\n'
MORE += 'when {{ resource.project == "p{n}" && resource.zone != "z{n}" && context.hour < 6 }};\n'
ASKED = Question(
    "user_1", frozenset({Role.OPERATOR}), "", "endpoint.create",
    Resource("endpoint", "e", "p1", "z1", 2, frozenset({"DE", "FR"})), second_factor=True, hour=12,
)  # fmt: skip


def measure() -> dict[str, float]:
    """Return every figure, in milliseconds unless its name says otherwise."""
    engine = _engine()
    fresh = [replace(ASKED, actor=f"user_{number}") for number in range(TIMES)]
    figures = _spread("decision", [_timed(partial(decision.decide, engine, asked)) for asked in fresh])
    figures |= _spread("raw_cedar", _raw(engine, fresh))
    decider = decision.Decider(engine)
    decider.answer(ASKED)
    figures |= _spread("cached", [_timed(lambda: decider.answer(ASKED)) for _ in range(TIMES)])
    figures["load_66_policies_p50"] = statistics.median(_timed(_engine) for _ in range(20))
    rows = [Recorded(decision.to_data(replace(ASKED, actor=f"user_{n}")), 1) for n in range(REPLAYED)]
    figures["replay_10000_different_s"] = _timed(lambda: replay(engine, engine, rows)) / 1000
    figures |= asyncio.run(_with_database())
    figures["decision_to_raw"] = figures["decision_p50"] / figures["raw_cedar_p50"]
    figures["cached_to_select"] = figures["cached_p50"] / figures["select_p50"]
    return {name: round(value, 4) for name, value in figures.items()}


def _engine() -> cedar.Engine:
    base = shipped.shipped_policies()
    extra = POLICIES - cedar.load(base, VERBS).count
    return cedar.load(base + "".join(MORE.format(n=number) for number in range(extra)), VERBS)


def _raw(engine: cedar.Engine, questions: list[Question]) -> list[float]:
    """Time Cedar alone: request and entities are made before the clock starts."""
    made = [(cedar._request(asked), json.dumps(cedar._entities(asked))) for asked in questions]  # noqa: SLF001 - the same input

    def ask(request: dict[str, object], entities: str) -> None:
        assert cedarpy.is_authorized(request, engine.policies, entities, engine.schema).allowed

    return [_timed(partial(ask, request, entities)) for request, entities in made]


async def _with_database() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="redoubt-bench-") as home, running_server(Path(home) / "data") as url:
        await asyncio.to_thread(migrate, url)
        database = Database(url, SystemClock(), pool=2)
        try:
            return await _asked_in_transactions(database)
        finally:
            await database.close()


async def _asked_in_transactions(database: Database) -> dict[str, float]:
    actor, figures = Actor("user_1", Role.OPERATOR), dict[str, float]()
    async with database.transaction() as tx:
        insert = "insert into idempotent_calls (actor, key, request_sha256, status, body, at)"
        insert += " values ('a', 'k', 'x', 0, '', now())"
        await tx.session.execute(text(insert))
        select = text("select body from idempotent_calls where actor = 'a' and key = 'k'")
        figures |= _spread("select", [await _waited(lambda: tx.session.execute(select)) for _ in range(2_000)])
        again = [await _waited(lambda: policy.require(tx, actor, "node.read", "site")) for _ in range(2_000)]
        figures |= _spread("require_again", again)

        async def recorded(name: str) -> None:
            await policy.require(tx, actor, "endpoint.create", name)
            await tx.session.flush()

        new = [await _waited(partial(recorded, f"e{n}")) for n in range(2_000)]
        figures |= _spread("require_new_and_recorded", new)
    return figures


def _timed(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


async def _waited(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


def _spread(name: str, took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {f"{name}_p50": ordered[len(ordered) // 2], f"{name}_p99": ordered[len(ordered) * 99 // 100]}


def main() -> None:
    figures = measure()
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<32} {value:>10}")
    verdict = "met" if figures["decision_p99"] <= GOAL_P99_MS else "MISSED"
    print(f"goal: p99 of a decision at {POLICIES} policies at most {GOAL_P99_MS} ms: {verdict}")


if __name__ == "__main__":
    main()
