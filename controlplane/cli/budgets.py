"""redoubt budget: what an organisation, project, team, workflow, agent, run or key may use."""

from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.budgets import BudgetClient
from controlplane.contracts import budgets as contracts
from controlplane.contracts.snapshot import BudgetScope, BudgetUnit

COLUMNS = [
    ("BUDGET", "id"), ("OF", "scope"), ("SHARE", "share"), ("NAME", "name"), ("UNIT", "unit"), ("PER", "window"),
    ("LIMIT", "most"), ("SPENT", "spent_of"), ("ALLOTTED", "allotted_of"), ("EXCEPTION", "exception"),
]  # fmt: skip
ACCOUNT_COLUMNS = [("NAME", "name"), ("SPENT", "spent"), ("ALLOTTED", "allotted")]


class _Line(contracts.Budget):
    """A budget in a table: where each name has the limit for itself, what the busiest one has of it."""

    @property
    def spent_of(self) -> str:
        if self.busiest is None:
            return str(self.spent)
        return f"{self.busiest.spent} ({self.busiest.name}, of {self.names} names)"

    @property
    def allotted_of(self) -> int:
        return self.allotted if self.busiest is None else self.busiest.allotted


BudgetId = Annotated[str, typer.Argument(metavar="BUDGET", help="Its id, from `redoubt budget list`.")]
Beyond = Annotated[
    int, typer.Option(min=0, help="So much may each gateway go beyond while the control plane is away; 0: refuse.")
]
budgets = typer.Typer(no_args_is_help=True, help="Budgets: tokens, calls, retries, tool steps and seconds.")


@budgets.command("create")
def create_budget(
    context: typer.Context,
    scope: Annotated[BudgetScope, typer.Argument(help="Whose.")],
    unit: Annotated[BudgetUnit, typer.Argument(help="Of what.")],
    most: Annotated[int, typer.Option(min=0, help="The limit, in units.")],
    share: Annotated[str, typer.Option("--of", help="The organisation, project or team, or the name's own.")] = "",
    name: Annotated[
        str, typer.Option(help='The workflow, agent, run or the id of the key; "*" is each one for itself.')
    ] = "",
    per: Annotated[contracts.WindowName, typer.Option(help="After which time it begins anew, in UTC.")] = "fixed",
    exception: Beyond = 0,
    *,
    as_json: Json = False,
) -> None:
    """Bound what somebody may use."""
    ask = contracts.CreateBudget(
        scope=scope, share=share, name=name, unit=unit, window=per, most=most, exception=exception
    )
    with connect_as(context, BudgetClient) as client:
        made = client.create_budget(ask)
    show([_line(made)], COLUMNS, as_json=as_json, empty="")


@budgets.command("list")
def list_budgets(context: typer.Context, *, as_json: Json = False) -> None:
    """List budgets, and what is spent of them."""
    with connect_as(context, BudgetClient) as client:
        empty = "no budgets; make one: redoubt budget create project completion_tokens --of NAME --most N --per day"
        show(map(_line, client.list_budgets()), COLUMNS, as_json=as_json, empty=empty)


@budgets.command("show")
def show_budget(context: typer.Context, budget: BudgetId, *, as_json: Json = False) -> None:
    """Show one, and each name that it counts."""
    with connect_as(context, BudgetClient) as client:
        found = client.get_budget(budget)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show([_line(found)], COLUMNS, as_json=False, empty="")
    if found.name == "*":
        show(found.accounts, ACCOUNT_COLUMNS, as_json=False, empty="nothing is spent of it in this period")


@budgets.command("change")
def change_budget(
    context: typer.Context,
    budget: BudgetId,
    most: Annotated[int | None, typer.Option(min=0, help="The new limit, in units.")] = None,
    exception: Annotated[int | None, typer.Option(min=0, help="The new exception, in units.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Change its limit; a lower one binds about a second later."""
    with connect_as(context, BudgetClient) as client:
        changed = client.change_budget(budget, contracts.ChangeBudget(most=most, exception=exception))
    show([changed if as_json else _line(changed)], COLUMNS, as_json=as_json, empty="")


@budgets.command("end")
def end_budget(context: typer.Context, budget: BudgetId) -> None:
    """Bound nothing by it any more; what was spent stays on record."""
    with connect_as(context, BudgetClient) as client:
        client.end_budget(budget)
    say(f"{budget} is over")


def _line(budget: contracts.Budget) -> _Line:
    return _Line(**{name: getattr(budget, name) for name in contracts.Budget.model_fields})
