"""Budgets: limits of what may be used, and what is left of them."""

from fastapi import APIRouter
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import budgets as contracts
from controlplane.contracts.admin import Rows
from controlplane.domains.budgets import rules
from controlplane.domains.budgets import service as budgets
from controlplane.domains.budgets.service import BudgetView
from controlplane.domains.budgets.types import AccountView, Terms, Window
from controlplane.kit.tx import Tx
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["budgets"])


@router.post("/budgets", status_code=201, response_model=contracts.Budget)
async def create_budget(body: contracts.CreateBudget, call: Posted) -> Response:
    """Bound what an organisation, project, team, workflow, agent, run or key may use."""
    terms = Terms(
        scope=body.scope,
        share=body.share,
        name=body.name,
        unit=body.unit,
        window=Window(body.window),
        most=body.most,
        exception=body.exception,
    )
    made = await budgets.create_budget(call.tx, call.actor, terms=terms)
    return call.created(to_budget(call.tx, BudgetView(made, ())))


@router.get("/budgets")
async def list_budgets(tx: Transaction, actor: Person, page: Paged) -> Rows[contracts.Budget]:
    found = await budgets.list_budgets(tx, actor, page=page)
    return rows(page, found, lambda view: to_budget(tx, view), lambda view: view.budget.id)


@router.get("/budgets/{budget}")
async def get_budget(budget: str, tx: Transaction, actor: Person) -> contracts.BudgetDetail:
    """Return a budget and each of its accounts."""
    return to_detail(tx, await budgets.get_budget(tx, actor, budget_id=budget))


@router.patch("/budgets/{budget}")
async def change_budget(
    budget: str, body: contracts.ChangeBudget, tx: Transaction, actor: Person
) -> contracts.BudgetDetail:
    """Change the limit or the exception; a lower one binds about a second later."""
    changed = await budgets.change_budget(tx, actor, budget_id=budget, most=body.most, exception=body.exception)
    return to_detail(tx, changed)


@router.delete("/budgets/{budget}", status_code=204)
async def end_budget(budget: str, tx: Transaction, actor: Person) -> None:
    """Bound nothing by it any more."""
    await budgets.end_budget(tx, actor, budget_id=budget)


def to_budget(tx: Tx, view: BudgetView) -> contracts.Budget:
    row = view.budget
    each = rules.amounts_of(row.unit)
    named = view.accounts if row.name == "*" else ()
    busiest = max(named, key=lambda one: (one.spent, one.allotted), default=None)
    return contracts.Budget(
        id=row.id,
        scope=row.scope,
        share=row.share,
        name=row.name,
        unit=row.unit,
        window=Window(row.window).value,
        most=row.most // each,
        exception=row.exception // each,
        spent=-(-sum(account.spent for account in view.accounts) // each),
        allotted=-(-sum(account.allotted for account in view.accounts) // each),
        ends_at=rules.period_of(Window(row.window), tx.now).ends_at,
        names=len(named),
        busiest=None if busiest is None else _to_account(busiest, each),
    )


def to_detail(tx: Tx, view: BudgetView) -> contracts.BudgetDetail:
    each = rules.amounts_of(view.budget.unit)
    accounts = tuple(_to_account(one, each) for one in view.accounts)
    return contracts.BudgetDetail(**to_budget(tx, view).model_dump(), accounts=accounts)


def _to_account(one: AccountView, each: int) -> contracts.BudgetAccount:
    name = one.account.partition("/")[2]
    return contracts.BudgetAccount(name=name, spent=-(-one.spent // each), allotted=-(-one.allotted // each))
