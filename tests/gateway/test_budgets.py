"""A gateway with budgets on real sockets: what a client is told, what the engine is given, what is written down."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import httpx

from controlplane.contracts.budgets import Allotment, Allotments, AskAllotments
from controlplane.contracts.snapshot import SnapshotBudget
from controlplane.gateway.budget.accounts import Accounts
from controlplane.gateway.budget.count import PromptCounter
from controlplane.gateway.budget.follower import AllotmentFollower
from controlplane.gateway.budget.ledger import Ledger
from controlplane.gateway.budget.retries import Retries
from controlplane.gateway.shared_table import SharedTable
from tests.gateway.stage import KEY, Call, Gateway, Stage, key, snapshot
from tests.support.budgeted import SHARE, budget

TOKENS = "budget_project_completion_tokens"
PROMPT = "budget_project_prompt_tokens"
UNBOUNDED = b'{"model":"chat","messages":[{"role":"user","content":"hello"}]}'
USAGE = (
    b'{"id":"c1","object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant",'
    b'"content":"hi"}}],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'
)


class Grants:
    """A control plane that grants what is asked for, up to a limit for each account; or is away."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.away = False
        self.asks: list[AskAllotments] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("away")
        ask = AskAllotments.model_validate_json(await request.aread())
        self.asks.append(ask)
        told = tuple(self._allot(one.account, one.granted, one.wanted) for one in ask.accounts)
        return httpx.Response(200, text=Allotments(accounts=told).model_dump_json())

    def _allot(self, account: str, granted: int, wanted: int) -> Allotment:
        limit = self.limits.get(account, 0)
        granted = max(granted, min(wanted, limit))
        return Allotment(account=account, granted=granted, left=limit - granted, elsewhere=0, at_best=0)


async def with_budgets(
    gateway: Gateway, grants: Grants, table: Path, budgets: Iterable[SnapshotBudget], *replicas: object
) -> asyncio.Task[None]:
    """Let a gateway follow these budgets; return the task that asks for allotments."""
    hub, woken = gateway.hub, asyncio.Event()
    ledger = Ledger(
        Accounts("ab" * 16),
        clock=hub.clock,
        now_s=hub.time,
        wake=woken.set,
        soon=asyncio.get_running_loop().call_soon,
        retries=Retries(SharedTable(table, buckets=16), hub.wall_s),
        count=PromptCounter(hub.endpoint_now).count,
        is_leaving=lambda: hub.draining,
    )
    hub.budgets = ledger
    made = snapshot(99, tuple(replica.spec for replica in replicas), (key(KEY),))  # type: ignore[attr-defined] # scripted
    hub.adopt(made.model_copy(update={"budgets": tuple(budgets), "shares": (SHARE,)}))
    http = httpx.AsyncClient(transport=httpx.MockTransport(grants), base_url="http://control")
    follower = AllotmentFollower(http, lambda: None, ledger, woken)

    async def follow() -> None:
        while True:
            try:
                await follower.step()
            except Exception:  # noqa: BLE001 - as run_every does
                await asyncio.sleep(0.02)

    return asyncio.get_running_loop().create_task(follow())


async def tell_usage(call: Call) -> None:
    await call.answer(USAGE)


async def test_a_client_that_names_no_limit_gets_one_is_told_and_pays_for_what_it_used(stage: Stage, tmp_path: Path):
    replica = await stage.replica(tell_usage)
    gateway = await stage.gateway(replica)
    following = await with_budgets(gateway, Grants({TOKENS: 100}), tmp_path / "r", [budget()], replica)

    answer = await gateway.chat(UNBOUNDED)

    assert answer.status_code == 200
    assert json.loads(replica.requests[0].body)["max_tokens"] == 100
    assert answer.headers["x-redoubt-max-tokens"] == "100"
    assert answer.headers["x-redoubt-budget-left"] == "completion_tokens=97"
    assert gateway.journal.intents[0].held == ((TOKENS, 100),)
    assert gateway.journal.outcomes[0].spent == ((TOKENS, 3),)
    following.cancel()


async def test_what_is_used_up_is_429_in_the_dialect_and_no_replica_hears_of_it(stage: Stage, tmp_path: Path):
    replica = await stage.replica(tell_usage)
    gateway = await stage.gateway(replica)
    following = await with_budgets(gateway, Grants({}), tmp_path / "r", [budget()], replica)

    answer = await gateway.chat(UNBOUNDED)

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_exhausted")
    assert answer.headers["x-redoubt-reason"] == "budget_exhausted"
    assert replica.requests == []
    following.cancel()


async def test_a_hundred_at_once_get_every_token_and_not_one_more(stage: Stage, tmp_path: Path):
    async def use_all(call: Call) -> None:
        most = json.loads(call.request.body)["max_tokens"]
        await call.answer(USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":%d' % most))

    replica = await stage.replica(use_all)
    gateway = await stage.gateway(replica)
    following = await with_budgets(gateway, Grants({TOKENS: 1234}), tmp_path / "r", [budget()], replica)

    answers = await asyncio.gather(*(gateway.chat() for _ in range(100)))

    assert {answer.status_code for answer in answers} == {200, 429}
    assert sum(amount for outcome in gateway.journal.outcomes for _, amount in outcome.spent) == 1234
    following.cancel()


async def test_a_prompt_too_long_in_bytes_is_counted_by_the_replica_that_would_serve_it(stage: Stage, tmp_path: Path):
    async def count_or_answer(call: Call) -> None:
        counts = call.request.head.startswith(b"POST /v1/chat/completions/input_tokens ")
        await call.answer(b'{"input_tokens":7,"object":"response.input_tokens"}' if counts else USAGE)

    replica = await stage.replica(count_or_answer)
    gateway = await stage.gateway(replica)
    following = await with_budgets(gateway, Grants({PROMPT: 50}), tmp_path / "r", [budget("prompt_tokens")], replica)

    answer = await gateway.chat()

    assert answer.status_code == 200
    assert gateway.journal.intents[0].held == ((PROMPT, 7),)
    following.cancel()


async def test_a_control_plane_that_is_away_is_told_apart_from_a_budget_that_is_used(stage: Stage, tmp_path: Path):
    replica = await stage.replica(tell_usage)
    gateway = await stage.gateway(replica)
    grants = Grants({TOKENS: 1000})
    following = await with_budgets(gateway, grants, tmp_path / "r", [budget()], replica)
    assert (await gateway.chat()).status_code == 200

    grants.away = True
    served = [(await gateway.chat()).status_code for _ in range(40)]
    refused = await gateway.chat()

    assert set(served) == {200, 503}
    assert refused.json()["error"]["code"] == "budget_unknown"
    following.cancel()


async def test_a_stream_whose_client_leaves_has_spent_its_hold(stage: Stage, tmp_path: Path):
    async def begin(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await call.until_hung_up()

    replica = await stage.replica(begin)
    gateway = await stage.gateway(replica)
    following = await with_budgets(gateway, Grants({TOKENS: 1000}), tmp_path / "r", [budget()], replica)
    streamed = UNBOUNDED[:-1] + b',"max_tokens":40,"stream":true}'

    async with gateway.client() as client, client.stream("POST", "/v1/chat/completions", content=streamed) as answer:
        await anext(answer.aiter_bytes())
    while not gateway.journal.outcomes:  # noqa: ASYNC110 - the server notices on its own
        await asyncio.sleep(0.01)

    assert gateway.journal.outcomes[0].spent == ((TOKENS, 40),)
    following.cancel()
