"""Which accounts bind a request, by the snapshot that admitted it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never, get_args

from controlplane.contracts.snapshot import BudgetScope, SnapshotBudget
from controlplane.gateway.budget.accounts import Account, Accounts
from controlplane.gateway.directory import Directory
from controlplane.gateway.errors import TooManyBudgets
from controlplane.gateway.request import Request

UNNAMED = "-"  # no client can say this: what names no workflow is one more of them
_SCOPES = get_args(BudgetScope)
_MOST_LETTERS = 2400  # of all accounts of a request: a line of the spool holds 4096
_MOST_ACCOUNTS = 64
_MOST_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Binding:
    """Every account above a request, the widest scope first, and the units that they count."""

    accounts: tuple[Account, ...]
    units: frozenset[int]


_Who = tuple[str, str, str, str, str]


class Book:
    """The budgets of one snapshot; what was found is kept by who asked."""

    def __init__(self, directory: Directory, accounts: Accounts) -> None:
        self.directory = directory
        self._accounts = accounts
        self._budgets = sorted(directory.budgets, key=lambda budget: _SCOPES.index(budget.scope))
        self._found: dict[_Who, Binding | None] = {}

    def binding_of(self, request: Request) -> Binding | None:
        """Return what binds a request, None for nothing. Raises TooManyBudgets."""
        if not self._budgets:
            return None
        grant, work = request.grant, request.work
        who = (grant.key_id, grant.project, work.workflow, work.agent, work.run)
        try:
            return self._found[who]
        except KeyError:
            if len(self._found) >= _MOST_KEPT:
                self._found.clear()
            found = self._found[who] = self._bind(request)
            return found

    def _bind(self, request: Request) -> Binding | None:
        accounts = tuple(self._find(request))
        if len(accounts) > _MOST_ACCOUNTS or sum(len(account.word) + 20 for account in accounts) > _MOST_LETTERS:
            detail = f"{len(accounts)} budgets bind this request, more than can be written down"
            raise TooManyBudgets(detail, remedy="operators: end some of them, redoubt budget list")
        return Binding(accounts, frozenset(account.unit for account in accounts)) if accounts else None

    def _find(self, request: Request) -> Iterator[Account]:
        project = request.grant.project
        share = self.directory.shares.get(project)
        chain = {project} if share is None else {share.name, share.team, share.project, share.organisation}
        for budget in self._budgets:
            name = self._named(budget, request, chain)
            if name is not None:
                yield self._accounts.open(f"{budget.budget_id}/{name}" if name else budget.budget_id, budget)

    @staticmethod
    def _named(budget: SnapshotBudget, request: Request, chain: set[str]) -> str | None:
        """Return the name within the budget, "" where it counts all as one, None where it does not bind."""
        work = request.work
        match budget.scope:
            case "organisation" | "project" | "team":
                return "" if budget.share in chain else None
            case "workflow" | "agent" | "run":
                name = str(getattr(work, budget.scope)) or UNNAMED
            case "key":
                name = request.grant.key_id
            case _:
                assert_never(budget.scope)
        if budget.name == "*":
            return name if budget.share in chain else None
        return "" if budget.name == name and (budget.share in chain or budget.scope == "key") else None
