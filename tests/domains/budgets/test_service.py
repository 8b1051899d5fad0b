"""Budgets through the admin API, and gateways that ask for parts of them, on a real database."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from controlplane.domains.audit.types import Role
from controlplane.domains.budgets.tables import BudgetAccount
from controlplane.gateway.records import AnyRecord, Chain, Closed, Opened, Outcome
from tests.support.control_plane import ControlPlane

A, B = "aa" * 16, "bb" * 16


async def ask(plane: ControlPlane, who: str, method: str, path: str, **body: Any) -> httpx.Response:
    async with plane.client(who) as client:
        return await client.request(method, path, json=body or None)


async def make_budget(plane: ControlPlane, admin: str, **more: Any) -> str:
    body = {"scope": "project", "share": "redoubt", "unit": "completion_tokens", "most": 100} | more
    answer = await ask(plane, admin, "POST", "/budgets", **body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def allot(
    plane: ControlPlane, boot: str, number: int, account: str, wanted: int, *, granted: int = 0, used: int = 0
) -> httpx.Response:
    one = {"account": account, "granted": granted, "used": used, "spent": 0, "wanted": wanted, "ahead": 0}
    async with plane.machine("service", "gateway") as client:
        return await client.post("/gateway/allotments", json={"boot": boot, "number": number, "accounts": [one]})


async def granted(plane: ControlPlane, boot: str, number: int, account: str, wanted: int, **more: int) -> int:
    answer = await allot(plane, boot, number, account, wanted, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["accounts"][0]["granted"]


async def ship(plane: ControlPlane, boot: str, account: str, spent: int, *, closes: bool) -> None:
    chain = Chain()
    outcome = Outcome(
        at_us=5, bytes_out=20, code="", duration_us=5, endpoint="chat", key="key_a", project="redoubt",
        replica="replica_a", request="req_a", result="answered", status=200, tokens_in=7, tokens_out=3,
        spent=((account, spent),),
    )  # fmt: skip
    records: list[AnyRecord] = [Opened(at_us=1, node="gw1"), outcome, *([Closed(at_us=9)] if closes else [])]
    lines = [chain.add(record).decode() for record in records]
    async with plane.machine("service", "gateway") as client:
        answer = await client.post("/gateway/spool", json={"boot": boot, "first": 0, "lines": lines})
    assert answer.status_code == 200, answer.text


async def test_two_that_ask_at_once_never_get_more_than_there_is(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)

    boots = [f"{number:02x}" * 16 for number in range(8)]
    given = await asyncio.gather(*(granted(plane, boot, 1, budget, 30) for boot in boots))

    assert sorted(given) == [0, 0, 0, 0, 10, 30, 30, 30]


async def test_what_is_given_back_another_may_have(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    assert await granted(plane, A, 1, budget, 100) == 100
    assert await granted(plane, B, 1, budget, 50) == 0

    answer = await allot(plane, A, 2, budget, 20, granted=20, used=20)

    assert answer.json()["accounts"][0]["recall"], "B was short"
    assert await granted(plane, B, 2, budget, 50) == 50


async def test_an_ask_that_comes_late_changes_nothing(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 5, budget, 60)

    late = await allot(plane, A, 4, budget, 0)

    assert (late.status_code, late.json()["code"]) == (409, "stale_ask")
    assert await granted(plane, B, 1, budget, 100) == 40


async def test_a_closed_spool_is_final_and_frees_what_was_not_spent(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 100)

    await ship(plane, A, budget, 30, closes=True)

    over = await allot(plane, A, 2, budget, 100, granted=100)
    assert (over.status_code, over.json()["code"]) == (409, "holder_over")
    assert await granted(plane, B, 1, budget, 100) == 70


async def test_a_spool_that_goes_on_frees_nothing(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 100)

    await ship(plane, A, budget, 30, closes=False)

    assert await granted(plane, B, 1, budget, 100) == 0


async def test_each_name_of_a_budget_for_each_has_the_whole_limit(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin, scope="run", name="*")

    given = [await granted(plane, A, 1 + i, f"{budget}/{name}", 100) for i, name in enumerate(("r1", "r2", "r1"))]
    shown = (await ask(plane, admin, "GET", f"/budgets/{budget}")).json()

    assert given == [100, 100, 100]
    assert [(one["name"], one["allotted"]) for one in shown["accounts"]] == [("r1", 100), ("r2", 100)]


async def test_a_new_day_begins_anew_and_yesterdays_account_is_over(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin, window="day")
    today = f"{budget}@{plane.clock.now():%Y-%m-%d}"
    await granted(plane, A, 1, today, 100)

    plane.clock.move(86_400 + 300)

    tomorrow = f"{budget}@{plane.clock.now():%Y-%m-%d}"
    assert await granted(plane, B, 1, tomorrow, 100) == 100
    assert await granted(plane, B, 2, today, 100) == 0


async def test_seconds_are_counted_in_milliseconds(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin, unit="wall_seconds", most=2)

    given = await granted(plane, A, 1, budget, 5_000)
    await ship(plane, A, budget, 1_001, closes=True)
    shown = (await ask(plane, admin, "GET", f"/budgets/{budget}")).json()

    assert given == 2_000
    assert (shown["most"], shown["spent"], shown["allotted"]) == (2, 2, 0)


async def test_a_limit_that_is_lowered_grants_nothing_and_one_that_is_over_neither(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 50)

    await ask(plane, admin, "PATCH", f"/budgets/{budget}", most=40)
    assert await granted(plane, B, 1, budget, 10) == 0
    await ask(plane, admin, "PATCH", f"/budgets/{budget}", most=200)
    assert await granted(plane, B, 2, budget, 10) == 10
    await ask(plane, admin, "DELETE", f"/budgets/{budget}")
    assert await granted(plane, B, 3, budget, 50, granted=10) == 10
    assert (await ask(plane, admin, "GET", "/budgets")).json()["items"] == []


async def test_an_account_of_no_budget_is_passed_over(plane: ControlPlane, admin: str):
    answer = await allot(plane, A, 1, "budget_unknown", 10)

    assert answer.json() == {"accounts": []}


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"scope": "workflow"}, 422),
        ({"name": "x"}, 422),
        ({"share": "nobody"}, 404),
        ({"scope": "organisation"}, 404),
        ({"scope": "key", "name": "key_x"}, 404),
        ({"most": -1}, 422),
        ({}, 409),
    ],
)
async def test_a_budget_of_nothing_that_is_there_is_refused(plane: ControlPlane, admin: str, wrong, status):
    await make_budget(plane, admin)
    body = {"scope": "project", "share": "redoubt", "unit": "completion_tokens", "most": 100} | wrong

    assert (await ask(plane, admin, "POST", "/budgets", **body)).status_code == status


async def test_a_tenant_sees_its_own_budgets_alone(plane: ControlPlane, admin: str):
    await ask(plane, admin, "POST", "/shares", kind="organisation", name="acme")
    for project in ("blue", "red"):
        await ask(plane, admin, "POST", "/shares", kind="project", name=project, parent="acme")
    own = await make_budget(plane, admin, share="blue")
    other = await make_budget(plane, admin, share="red")
    tenant = await plane.person(Role.TENANT_USER, project="blue")

    listed = (await ask(plane, tenant, "GET", "/budgets")).json()["items"]
    shown = [(await ask(plane, tenant, "GET", f"/budgets/{budget}")).status_code for budget in (own, other)]

    assert [one["id"] for one in listed] == [own]
    assert shown == [200, 404]


@pytest.mark.parametrize(("kind", "name"), [("node", "gpu1"), ("service", "api")])
async def test_nobody_but_a_gateway_asks_for_allotments(plane: ControlPlane, kind: str, name: str):
    async with plane.machine(kind, name) as client:
        answer = await client.post("/gateway/allotments", json={"boot": A, "number": 1, "accounts": []})
    assert answer.status_code == 403


async def test_a_budget_of_more_names_than_a_statement_takes_parameters_is_shown_and_listed(
    plane: ControlPlane, admin: str
):
    budget = await make_budget(plane, admin, scope="run", name="*", unit="calls")
    names = [*(f"{budget}/run-{number}" for number in range(33_000)), f"{budget}@2020-01/run-1"]
    async with plane.database.transaction() as tx:
        rows = [{"account": name, "budget_id": budget, "short_boot": ""} for name in names]
        await tx.session.execute(insert(BudgetAccount), rows)

    shown = await ask(plane, admin, "GET", f"/budgets/{budget}")
    listed = await ask(plane, admin, "GET", "/budgets")

    assert (shown.status_code, listed.status_code) == (200, 200)
