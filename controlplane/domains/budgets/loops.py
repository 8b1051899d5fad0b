"""Keep the tables of budgets small: fold what is over, a bounded number of accounts in a transaction."""

from collections.abc import Awaitable, Callable

from controlplane.domains.audit.types import SYSTEM, Actor
from controlplane.domains.budgets import rules, service
from controlplane.kit.tx import Database, Tx

MOST_STEPS = 200  # of one kind in one call; the next call goes on


class BudgetSweeper:
    """One sweep a call; the caller repeats it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def step(self) -> None:
        """Fold closed lives of workers, then forget periods that ended long ago."""
        await self._repeat(service.fold_lives)
        await self._repeat(service.forget_periods)

    async def _repeat(self, verb: Callable[[Tx, Actor], Awaitable[int]]) -> None:
        for _ in range(MOST_STEPS):
            async with self._database.transaction() as tx:
                done = await verb(tx, SYSTEM)
            if done < rules.FOLDED_AT_ONCE:
                return
