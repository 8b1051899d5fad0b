from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from controlplane.contracts.snapshot import BudgetScope, BudgetUnit
from controlplane.kit.errors import Conflict

Life: TypeAlias = tuple[str, str]  # a gateway, and the boot of one of its workers


class Window(StrEnum):
    """After which time a budget begins anew; days and months are UTC."""

    FIXED = "fixed"
    DAY = "day"
    MONTH = "month"


class StaleAsk(Conflict):
    """A newer ask of the same holder was answered already."""

    kind = "stale_ask"


class HolderOver(Conflict):
    """The holder's spool is closed: it gets nothing any more."""

    kind = "holder_over"


@dataclass(frozen=True)
class Terms:
    """Whose budget it is and of what; see contracts.snapshot.SnapshotBudget. `most` and `exception` are amounts."""

    scope: BudgetScope
    share: str
    name: str
    unit: BudgetUnit
    window: Window
    most: int
    exception: int


@dataclass(frozen=True)
class Period:
    """`tag` is "" for a fixed budget; `ends_at` None is never."""

    tag: str
    ends_at: datetime | None


@dataclass(frozen=True)
class LiveBudget:
    """A budget as a gateway must know it: `budget_id` names its period as well."""

    budget_id: str
    terms: Terms
    ends_at: datetime | None


@dataclass(frozen=True)
class Holding:
    """What one life of a worker has of an account: granted, in use by its own word, and spent by its spool."""

    granted: int = 0
    used: int = 0
    spent: int = 0
    closed: bool = False


@dataclass(frozen=True)
class Ask:
    """Of one account: what the holder may use as far as it knows, uses, spent, must have in all, and would use soon."""

    account: str
    granted: int
    used: int
    spent: int
    wanted: int
    ahead: int


@dataclass(frozen=True)
class Verdict:
    """`left` is free for anybody, `elsewhere` others have and do not use, `at_best` is all that was never spent."""

    granted: int
    left: int
    elsewhere: int
    at_best: int
    short: bool


@dataclass(frozen=True)
class AccountView:
    """Amounts of one account: spent by shipped records, and allotted to gateways beyond that."""

    account: str
    spent: int
    allotted: int
