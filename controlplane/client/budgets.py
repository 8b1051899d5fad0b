"""The typed client of budgets."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import budgets


class BudgetClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def create_budget(self, ask: budgets.CreateBudget) -> budgets.Budget:
        return self.send("POST", ("budgets",), ask, budgets.Budget)

    def list_budgets(self) -> Iterator[budgets.Budget]:
        return self.list_of("/budgets", budgets.Budget)

    def get_budget(self, budget: str) -> budgets.BudgetDetail:
        return self.send("GET", ("budgets", budget), None, budgets.BudgetDetail)

    def change_budget(self, budget: str, ask: budgets.ChangeBudget) -> budgets.BudgetDetail:
        return self.send("PATCH", ("budgets", budget), ask, budgets.BudgetDetail)

    def end_budget(self, budget: str) -> None:
        self._send("DELETE", self.path_of(("budgets", budget)))
