"""The tables of budgets stay small, and what is spent stays what it is."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from controlplane.domains.budgets import rules
from controlplane.domains.budgets.loops import BudgetSweeper
from controlplane.domains.budgets.tables import Allotment, BudgetAccount, BudgetHolder, BudgetRow
from controlplane.domains.metering.tables import AmountSpent
from tests.domains.budgets.test_service import allot, ask, granted, make_budget, ship
from tests.support.control_plane import ControlPlane

A, B, C = "aa" * 16, "bb" * 16, "cc" * 16


async def rows(plane: ControlPlane) -> dict[str, int]:
    async with plane.database.transaction() as tx:
        tables = (Allotment, AmountSpent, BudgetAccount, BudgetHolder)
        counts = [await tx.session.scalar(select(func.count()).select_from(table)) for table in tables]
    return {table.__tablename__: count or 0 for table, count in zip(tables, counts, strict=True)}


async def test_lives_that_are_over_become_one_sum_and_the_limit_binds_as_before(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    for boot, spent in ((A, 30), (B, 20)):
        assert await granted(plane, boot, 1, budget, 40) == 40
        await ship(plane, boot, budget, spent, closes=True)
    await granted(plane, C, 1, budget, 10)
    before = (await ask(plane, admin, "GET", f"/budgets/{budget}")).json()

    for _ in range(2):
        await BudgetSweeper(plane.database).step()

    assert await rows(plane) == {"allotments": 1, "amounts_spent": 1, "budget_accounts": 1, "budget_holders": 1}
    assert (await ask(plane, admin, "GET", f"/budgets/{budget}")).json() == before
    late = await allot(plane, A, 2, budget, 100, granted=40)
    assert (late.status_code, late.json()["code"]) == (409, "holder_over")
    assert await granted(plane, C, 2, budget, 100, granted=10) == 50


async def test_a_life_that_goes_on_is_not_folded(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 100)
    await ship(plane, A, budget, 30, closes=False)
    before = await rows(plane)

    await BudgetSweeper(plane.database).step()

    assert await rows(plane) == before
    assert await granted(plane, B, 1, budget, 1) == 0


async def test_more_accounts_than_a_transaction_folds_are_folded_in_several(
    plane: ControlPlane, admin: str, monkeypatch
):
    monkeypatch.setattr(rules, "FOLDED_AT_ONCE", 2)
    budget = await make_budget(plane, admin, scope="run", name="*")
    for number in range(5):
        await granted(plane, A, 1 + number, f"{budget}/run-{number}", 10)
    await ship(plane, A, f"{budget}/run-0", 7, closes=True)

    await BudgetSweeper(plane.database).step()

    assert await rows(plane) == {"allotments": 0, "amounts_spent": 1, "budget_accounts": 5, "budget_holders": 0}


@pytest.mark.parametrize(
    ("window", "days", "left"), [("day", 89, 1), ("day", 92, 0), ("month", 89, 1), ("month", 122, 0)]
)
async def test_a_period_that_ended_is_kept_for_ninety_days(plane: ControlPlane, admin: str, window, days, left):
    budget = await make_budget(plane, admin, window=window)
    tag = f"{plane.clock.now():%Y-%m-%d}" if window == "day" else f"{plane.clock.now():%Y-%m}"
    await granted(plane, A, 1, f"{budget}@{tag}", 100)
    await ship(plane, A, f"{budget}@{tag}", 30, closes=False)

    plane.clock.move(timedelta(days=days).total_seconds())
    await BudgetSweeper(plane.database).step()

    found = await rows(plane)
    assert (found["allotments"], found["amounts_spent"], found["budget_accounts"]) == (left, left, left)


async def test_what_is_told_late_of_a_forgotten_period_is_forgotten_again(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin, window="day")
    await ship(plane, A, f"{budget}@2020-01-01", 30, closes=True)

    await BudgetSweeper(plane.database).step()

    assert await rows(plane) == {"allotments": 0, "amounts_spent": 0, "budget_accounts": 0, "budget_holders": 0}


async def test_a_fixed_budget_is_kept_until_long_after_its_end(plane: ControlPlane, admin: str):
    budget = await make_budget(plane, admin)
    await granted(plane, A, 1, budget, 100)
    async with plane.database.transaction() as tx:
        (await tx.session.get_one(BudgetRow, budget)).ended_at = tx.now - timedelta(days=89)
    await BudgetSweeper(plane.database).step()
    kept = await rows(plane)

    plane.clock.move(timedelta(days=2).total_seconds())
    await BudgetSweeper(plane.database).step()

    assert kept["budget_accounts"] == 1
    assert (await rows(plane))["budget_accounts"] == 0
