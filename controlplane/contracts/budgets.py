"""Shapes of budgets, and of how gateways ask for parts of them."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.admin import ShareName
from controlplane.contracts.snapshot import BudgetScope, BudgetUnit
from controlplane.contracts.spool import Count, Word
from controlplane.contracts.strict import Answer, Strict

WindowName = Literal["fixed", "day", "month"]
BudgetedName = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._:-]{0,79})?$", description='a name, or "*"')]
Units = Annotated[int, Field(ge=0, le=10**12)]  # times 1000 where amounts are milliseconds: below 2**53
MOST_ACCOUNTS = 500  # in one ask


class CreateBudget(Strict):
    """`share` is the organisation, project or team; `name` the key, workflow, agent or run, "*" each for itself.

    `most` and `exception` are in units: tokens, calls, retries, steps or seconds.
    """

    scope: BudgetScope
    share: ShareName | Literal[""] = ""
    name: BudgetedName = ""
    unit: BudgetUnit
    window: WindowName = "fixed"
    most: Units
    exception: Units = 0


class ChangeBudget(Strict):
    """What is null stays as it is."""

    most: Units | None = None
    exception: Units | None = None


class BudgetAccount(Answer):
    """What was spent for one name."""

    name: str
    spent: int
    allotted: int


class Budget(Answer):
    """All in units, those of seconds rounded up. `allotted` is at gateways and not known to be spent.

    `ends_at` is when this period ends; null for a fixed budget. Where each of `names` has the limit for itself, `spent`
    and `allotted` are of all together, and `busiest` is the name that spent most.
    """

    id: str
    scope: BudgetScope
    share: str
    name: str
    unit: BudgetUnit
    window: WindowName
    most: int
    exception: int
    spent: int
    allotted: int
    ends_at: AwareDatetime | None
    names: int = 0
    busiest: BudgetAccount | None = None


class BudgetDetail(Budget):
    accounts: tuple[BudgetAccount, ...] = ()


class AskAllotment(Strict):
    """Of one account, over the whole life of the worker that asks; amounts as in the spool.

    `granted` is what it will not go beyond until it hears more, `used` what it has spent and holds, of which `spent` is
    settled, `wanted` what it must have, `ahead` what it would soon use beyond that.
    """

    account: Word
    granted: Count
    used: Count
    spent: Count
    wanted: Count
    ahead: Count


class AskAllotments(Strict):
    """`boot` names the life of the worker as in its spool; `number` goes up with every ask."""

    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    number: Count
    accounts: Annotated[tuple[AskAllotment, ...], Field(max_length=MOST_ACCOUNTS)]


class Allotment(Answer):
    """`granted` is for the whole life. `left` is free for anybody, `elsewhere` others have and do not use.

    `at_best` is all that was never spent; `recall`: others are short, give back what is not used.
    """

    account: str
    granted: int
    left: int
    elsewhere: int
    at_best: int
    recall: bool = False


class Allotments(Answer):
    """Accounts that are not here are not known: nothing is granted of them."""

    accounts: tuple[Allotment, ...]
