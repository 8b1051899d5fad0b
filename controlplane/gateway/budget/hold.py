"""What one request holds of every account above it."""

from math import ceil
from typing import TYPE_CHECKING

from controlplane.gateway.budget.accounts import Account
from controlplane.gateway.budget.budgets import Asking
from controlplane.gateway.budget.needs import CALLS, COMPLETION, GPU, PROMPT, RETRIES, TOOL_STEPS, WALL, Needs
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import Amount

if TYPE_CHECKING:
    from controlplane.gateway.budget.ledger import Ledger

_ONES = frozenset({CALLS, RETRIES, TOOL_STEPS})
_TOKENS = frozenset({PROMPT, COMPLETION})
_TIMES = frozenset({WALL, GPU})


class BudgetHold:
    """Held from the moment it is made until it is settled; `last_s` bounds its renewals, by the loop's time."""

    __slots__ = (
        "_began_s", "_gpus", "_held", "_ledger", "_spent", "asking", "ends_at_s", "last_s", "most_tokens", "retry",
    )  # fmt: skip

    def __init__(
        self, ledger: "Ledger", asking: Asking, accounts: tuple[Account, ...], needs: Needs, now_s: float, hold_s: float
    ) -> None:
        self._ledger = ledger
        self.asking: Asking | None = asking
        self._held = [(account, amount) for account in accounts if (amount := needs.amounts[account.unit])]
        for account, amount in self._held:
            account.take(amount)
        self._gpus = needs.gpus
        self._spent: tuple[Amount, ...] | None = None
        self._began_s = now_s
        self.most_tokens = needs.most_tokens
        self.retry = bool(needs.amounts[RETRIES])
        timed = any(account.unit in _TIMES for account, _ in self._held)
        self.last_s = now_s + needs.amounts[WALL] / 1000 if timed else float("inf")
        self.ends_at_s = min(now_s + hold_s, self.last_s)

    @property
    def amounts(self) -> tuple[Amount, ...]:
        return tuple([(account.word, amount) for account, amount in self._held])

    @property
    def left(self) -> bytes:
        least: dict[str, int] = {}
        for account, _ in self._held:
            left, unit = max(0, account.left + account.free), account.budget.unit
            least[unit] = min(left, least.get(unit, left))
        return b"x-redoubt-budget-left: %b\r\n" % ", ".join([f"{u}={n}" for u, n in least.items()]).encode()

    def settle(self, usage: Usage) -> tuple[Amount, ...]:
        if self._spent is None:
            self._end([(account, held, self._spent_of(account.unit, held, usage)) for account, held in self._held])
        return self._spent or ()

    def settle_whole(self) -> None:
        """Nobody can prove that less was used."""
        if self._spent is None:
            self._end([(account, held, held) for account, held in self._held])

    def _end(self, settled: list[tuple[Account, int, int]]) -> None:
        for account, held, spent in settled:
            account.settle(held, spent)
        self._spent = tuple([(account.word, spent) for account, _, spent in settled if spent])
        self.asking = None
        self._ledger.settled(self)

    def _spent_of(self, unit: int, held: int, usage: Usage) -> int:
        """Return what of one unit was used: all of it where nobody told, and never more than was held."""
        if not usage.dispatched:
            return 0
        if unit in _ONES:
            return held
        if unit in _TOKENS:
            told = usage.tokens_in if unit == PROMPT else usage.tokens_out
            return held if told is None else self._checked(told, held)
        wall_us = usage.wall_us or int((self._ledger.now_s() - self._began_s) * 1e6)
        used_us = wall_us if unit == WALL else usage.gpu_us or wall_us * self._gpus
        return min(held, ceil(used_us / 1000))

    def _checked(self, told: int, held: int) -> int:
        if told > held:
            self._ledger.not_bounded(told, held)
        return min(told, held)
