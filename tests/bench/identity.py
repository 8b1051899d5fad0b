"""What identity and policy cost, each beside its raw cost in the same run: `python -m tests.bench.identity [--json]`.

Contenders take turns in short blocks, and a figure is the best block of its rounds: neighbours of this machine can only
add to it. Trust the ratios within one run.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

from argon2 import PasswordHasher
from sqlalchemy import text

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import sessions
from controlplane.domains.policy.rules import cedar
from controlplane.domains.policy.rules.decision import Decider, decide
from controlplane.domains.policy.rules.shipped import shipped_policies
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import Question, Resource
from controlplane.kit.password_hash import BoundedHasher, HashCost
from controlplane.kit.tx import Tx
from tests.support.control_plane import ControlPlane, make_control_plane
from tests.support.database import migrate, running_server
from tests.support.oauth import ASSERTION_TYPE, make_keys, service_party, site

PEOPLE = 2000  # principals with a live session each, beside the one that asks
POLICIES = 66
BLOCK, ROUNDS = 200, 9
FILL = [
    """insert into principals (id, kind, name, project, created_at, enrolled_at)
    select 'user_b' || n, 'user', 'b' || n, '', now(), now() from generate_series(1, :many) n""",
    """insert into role_grants (id, principal_id, role, granted_by, granted_at)
    select 'grant_b' || n, 'user_b' || n, 'operator', 'bench', now() from generate_series(1, :many) n""",
    """insert into sessions (id, principal_id, client, methods, source, created_at, seen_at, strong_at,
    idle_expires_at, absolute_expires_at, revoked_why, scopes)
    select 'ses_b' || n, 'user_b' || n, 'cli', '{password}', '', now(), now(), now(), now() + interval '1 day',
    now() + interval '1 day', '', '{api}' from generate_series(1, :many) n""",
    """insert into tokens (sha256, session_id, kind, created_at, expires_at)
    select encode(sha256(('b' || n)::bytea), 'hex'), 'ses_b' || n, 'access', now(), now() + interval '1 day'
    from generate_series(1, :many) n""",
]
BARE = text("select session_id from tokens where sha256 = :digest")
JOINED = text(
    "select s.id, p.id, p.project, s.methods, s.strong_at, s.idle_expires_at,"
    " (select array_agg(g.role) from role_grants g where g.principal_id = p.id and g.revoked_at is null)"
    " from tokens t join sessions s on s.id = t.session_id join principals p on p.id = s.principal_id"
    " where t.sha256 = :digest and t.kind = 'access' and t.expires_at > now() and s.revoked_at is null"
    " and p.disabled_at is null"
)


@dataclass(frozen=True)
class Figure:
    """One thing that was measured. `raw` names the baseline; `goal` is the highest ratio that is meant, if one is."""

    name: str
    us: float
    raw: str
    raw_us: float
    goal: float | None = None

    @property
    def ratio(self) -> float:
        return self.us / self.raw_us


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder) / "postgres") as url:
        migrate(url)
        figures, facts = asyncio.run(measure(url))
    if asked.json:
        rows = [{**vars(figure), "ratio": round(figure.ratio, 2)} for figure in figures]
        print(json.dumps({"machine": machine(), "figures": rows, "facts": facts}, indent=2))
        return
    print(f"identity, on {machine()}")
    for figure in figures:
        print(line(figure))
    for name, value in facts.items():
        print(f"{name:44} {value}")


def line(figure: Figure) -> str:
    shown = f"{figure.name:44} {figure.us:9.1f} us   {figure.ratio:5.2f} x {figure.raw} ({figure.raw_us:.1f} us)"
    if figure.goal is None:
        return shown
    return f"{shown}  goal <= {figure.goal}: {'met' if figure.ratio <= figure.goal else 'MISSED'}"


def machine() -> str:
    return f"{len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"


async def measure(url: str) -> tuple[list[Figure], dict[str, str]]:
    plane = make_control_plane(url)
    token = await plane.person(Role.PLATFORM_ADMIN, Role.OPERATOR)
    await fill(plane)
    figures = [*await token_check(plane, token), *policy_decision()]
    oauth, select_us = await oauth_token(plane)
    figures.append(Figure("client_credentials with private_key_jwt", oauth, "the bare SELECT", select_us))
    facts = {**policy_tail(), **await password()}
    await plane.database.close()
    return figures, facts


async def fill(plane: ControlPlane) -> None:
    """Give the tables the size of a large site, so that an index has something to do."""
    async with plane.database.transaction() as tx:
        for statement in FILL:
            await tx.session.execute(text(statement), {"many": PEOPLE})
    async with plane.database.connection() as connection:
        await connection.execute(text("analyze"))


async def token_check(plane: ControlPlane, token: str) -> list[Figure]:
    """Compare the check with a SELECT by the same key: in a transaction each, and as a statement alone."""
    digest = {"digest": sha256(token.encode()).hexdigest()}

    async def bare(tx: Tx) -> None:
        (await tx.session.execute(BARE, digest)).one()

    async def joined(tx: Tx) -> None:
        (await tx.session.execute(JOINED, digest)).one()

    async def check(tx: Tx) -> None:
        await sessions.authenticate(tx, token, source="bench")

    def each_alone(work: Callable[[Tx], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def alone() -> None:
            async with plane.database.transaction() as tx:
                await work(tx)

        return alone

    requests = await in_turns([each_alone(work) for work in (bare, joined, check)])
    async with plane.database.transaction() as tx:
        statements = await in_turns([partial(work, tx) for work in (bare, joined, check)])
    return [
        Figure("token check, in a transaction of its own", requests[2], "the bare SELECT in one", requests[0], 1.3),
        Figure("token check, as a statement", statements[2], "the bare SELECT", statements[0], None),
        Figure("token check, as a statement", statements[2], "a SELECT of the same four tables", statements[1], None),
    ]


async def in_turns(works: list[Callable[[], Awaitable[None]]]) -> list[float]:
    """Return the best block of each, in microseconds a call."""
    best = [float("inf")] * len(works)
    for _ in range(ROUNDS):
        for place, work in enumerate(works):
            began = time.perf_counter()
            for _ in range(BLOCK):
                await work()
            best[place] = min(best[place], (time.perf_counter() - began) / BLOCK * 1e6)
    return best


def engine_of(count: int) -> cedar.Engine:
    """Return the shipped set with as many of an operator's policies as make `count`."""
    shipped = shipped_policies()
    missing = count - shipped.count("@id(")
    own = "\n".join(
        f'@id("own-{n}") forbid (principal, action in Action::"kind/write", resource)'
        f' when {{ resource.zone == "z{n}" }};'
        for n in range(missing)
    )
    return cedar.load(f"{shipped}\n{own}", VERBS)


def question(number: int) -> Question:
    roles = frozenset({Role.OPERATOR, Role.PLATFORM_ADMIN})
    return Question(f"user_{number}", roles, "", "endpoint.create", Resource("endpoint", f"e{number}"), stepped_up=True)


def timed(work: Callable[[int], object], count: int) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        work(number)
        times.append((time.perf_counter() - began) * 1e6)
    return times


def policy_decision() -> list[Figure]:
    few, many = engine_of(0), engine_of(POLICIES)
    raw = statistics.median(timed(lambda n: cedar.ask(few, question(n)), 2000))
    ours = statistics.median(timed(lambda n: decide(many, question(n)), 2000))
    decider = Decider(many)
    known = statistics.median(timed(lambda _: decider.answer(question(1)), 2000))
    return [
        Figure(f"policy decision, {POLICIES} policies, median", ours, "Cedar on the shipped set", raw),
        Figure("policy decision, known question", known, "Cedar on the shipped set", raw),
    ]


def policy_tail() -> dict[str, str]:
    engine = engine_of(POLICIES)
    best = min(statistics.quantiles(timed(lambda n: decide(engine, question(n)), 3000), n=100)[98] for _ in range(3))
    verdict = "met" if best <= 500 else "MISSED"
    return {f"policy decision, {POLICIES} policies, p99": f"{best / 1000:.3f} ms (goal <= 0.5: {verdict})"}


async def password() -> dict[str, str]:
    """Hash eight passwords at once through the bound of two, beside one bare argon2id after the other."""
    cost = HashCost()
    hasher = BoundedHasher(cost)
    bare = PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)
    digest = bare.hash("a password of the bench")
    began = time.perf_counter()
    for _ in range(8):
        bare.verify(digest, "a password of the bench")
    alone = time.perf_counter() - began
    began = time.perf_counter()
    await asyncio.gather(*(hasher.verify(digest, "a password of the bench") for _ in range(8)))
    bounded = time.perf_counter() - began
    return {
        "argon2id, 64 MiB, one after the other": f"{alone / 8 * 1000:.0f} ms each",
        "argon2id, eight at once, two run": f"{bounded * 1000:.0f} ms for all, {bounded / alone:.2f} x in turn",
    }


async def oauth_token(plane: ControlPlane) -> tuple[float, float]:
    """Ask for a service's token over ASGI, each with a fresh signed assertion."""
    await make_keys(plane)
    party = await service_party(plane, Role.OPERATOR)
    async with site(plane) as client:

        async def ask() -> None:
            assertion = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": party.assertion()}
            fields = {"grant_type": "client_credentials", **assertion}
            answer = await client.post("/oauth/token", data=fields)
            answer.raise_for_status()

        async def bare() -> None:
            async with plane.database.transaction() as tx:
                await tx.session.execute(BARE, {"digest": "0" * 64})

        return await in_turns_of(ask, bare)


async def in_turns_of(ask: Callable[[], Awaitable[None]], bare: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    best = [float("inf"), float("inf")]
    for _ in range(5):
        for place, work in enumerate((ask, bare)):
            began = time.perf_counter()
            for _ in range(40):
                await work()
            best[place] = min(best[place], (time.perf_counter() - began) / 40 * 1e6)
    return best[0], best[1]


if __name__ == "__main__":
    print(f"# {datetime.now(UTC):%Y-%m-%d %H:%M}Z", file=sys.stderr)
    main()
