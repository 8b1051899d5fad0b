"""How much a gateway may be given, so that no limit is ever passed; and what an account is called."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from controlplane.contracts.snapshot import BudgetUnit
from controlplane.domains.budgets.types import Ask, Holding, Period, Verdict, Window

MILLISECONDS: dict[BudgetUnit, int] = {"wall_seconds": 1000, "gpu_seconds": 1000}  # amounts of a unit; else 1
LEEWAY = timedelta(minutes=2)  # a period's account is granted from so long after its end: clocks differ
PERIODS_KEPT = timedelta(days=90)  # as long as single requests; what was spent is in the audit log for ever
FOLDED_AT_ONCE = 500  # accounts in a transaction: asks for them wait meanwhile
RECALLED_FOR = timedelta(seconds=6)  # longer than a short gateway waits


def amounts_of(unit: BudgetUnit) -> int:
    """Return how many amounts of an account are one of a unit."""
    return MILLISECONDS.get(unit, 1)


def period_of(window: Window, now: datetime) -> Period:
    """Return the period that a moment lies in."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case Window.FIXED:
            return Period("", None)
        case Window.DAY:
            return Period(f"{today:%Y-%m-%d}", today + timedelta(days=1))
        case Window.MONTH:
            first = today.replace(day=1)
            return Period(f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1))


def period_id(budget_id: str, period: Period) -> str:
    return f"{budget_id}@{period.tag}" if period.tag else budget_id


def is_account_of(account: str, budget_id: str, *, window: Window, named: bool, now: datetime) -> bool:
    """Say whether an account is one that this budget has now; one of the period before is so for a little longer."""
    of_period, slash, name = account.partition("/")
    periods = {period_id(budget_id, period_of(window, at)) for at in (now, now - LEEWAY)}
    return of_period in periods and bool(slash) == bool(name) == named


def budget_of(account: str) -> str:
    return account.partition("/")[0].partition("@")[0]


def taken(holding: Holding) -> int:
    """Return what of a limit is gone for everybody else."""
    return holding.spent if holding.closed else max(holding.granted, holding.used, holding.spent)


def decide(most: int, others: Sequence[Holding], own: Holding, ask: Ask, *, recalled: bool) -> Verdict:
    """Return what the holder may use in its whole life.

    Never more than is left, and never less than it believes: that it may have used. While others are short
    (`recalled`) nobody gets more than it must have.
    """
    others_taken = sum(taken(other) for other in others)
    room = max(0, most - others_taken - max(ask.granted, ask.used, own.spent))
    need = max(0, ask.wanted - ask.granted)
    given = min(need, room)
    if not recalled:
        given += min(ask.ahead, (room - given) // (2 * (1 + sum(not other.closed for other in others))))
    granted = ask.granted + given
    return Verdict(
        granted=granted,
        left=max(0, most - others_taken - max(granted, ask.used, own.spent)),
        elsewhere=sum(max(0, other.granted - max(other.used, other.spent)) for other in others if not other.closed),
        at_best=max(0, most - sum(other.spent for other in others) - max(own.spent, ask.spent)),
        short=given < need,
    )
