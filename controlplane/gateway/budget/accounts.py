"""What this worker may use of each account, over its whole life; decision 0031 says why that cannot overspend."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter
from typing import Final, get_args

from controlplane.contracts.budgets import MOST_ACCOUNTS, Allotment, AskAllotment, AskAllotments
from controlplane.contracts.snapshot import BudgetUnit, SnapshotBudget

UNITS: Final[tuple[BudgetUnit, ...]] = get_args(BudgetUnit)  # accounts say theirs by its place here
AHEAD_S = 2.0  # so much use in advance
MOST = 2**53 - 1  # a contract's count
IDLE_S = 10.0  # then what is not used goes back


class Account:
    """`granted` bounds `used`: what was spent and what is held. `left` and the like are the control plane's last word.

    `wanted` is the `used` that somebody waits for. `beyond` is the exception, for when the control plane is away.
    """

    __slots__ = (
        "at_best",
        "beyond",
        "budget",
        "doubtful",
        "elsewhere",
        "granted",
        "heard_s",
        "last_spent",
        "left",
        "low",
        "most_held",
        "rate",
        "recalled",
        "spent",
        "touched_s",
        "unit",
        "used",
        "wanted",
        "word",
    )

    def __init__(self, word: str, budget: SnapshotBudget, *, spent: int, beyond: int) -> None:
        self.word = word
        self.budget = budget
        self.unit = UNITS.index(budget.unit)
        self.granted = self.used = self.spent = self.last_spent = spent
        self.wanted = 0
        self.beyond = beyond
        self.left = self.elsewhere = self.at_best = 0
        self.heard_s = float("-inf")  # never
        self.touched_s = 0.0
        self.rate = 0.0  # spent a second
        self.low = 0  # with less than this it asks before anybody waits
        self.most_held = 0  # at once, since the last ask
        self.recalled = False
        self.doubtful = False  # asked, and not heard what was granted

    @property
    def free(self) -> int:
        return self.granted - self.used

    def take(self, amount: int) -> None:
        self.used += amount
        held = self.used - self.spent
        self.most_held = max(self.most_held, held)

    def settle(self, held: int, spent: int) -> None:
        self.used -= held - spent
        self.spent += spent

    def ask(self, now_s: float, since_s: float) -> AskAllotment:
        """Return what to ask for; what goes back is given up here already, before anybody hears of it."""
        spent = self.spent - self.last_spent
        self.rate = max(spent / max(since_s, 0.1), self.rate / 2)
        if self.used > self.spent or spent or self.wanted > self.granted:
            self.touched_s = now_s
        idle = now_s - self.touched_s > IDLE_S
        if (self.recalled or idle) and self.granted > self.used:
            self.granted = self.used
        soon = 0 if self.recalled or idle else self.spent + self.most_held + int(AHEAD_S * self.rate)
        wanted = min(max(self.wanted, self.used), MOST)
        self.last_spent, self.most_held = self.spent, self.used - self.spent
        self.low = int(self.rate)
        self.doubtful = True
        return AskAllotment(
            account=self.word,
            granted=self.granted,
            used=self.used,
            spent=self.spent,
            wanted=wanted,
            ahead=max(0, min(soon, MOST) - max(self.granted, wanted)),
        )

    def hear(self, answer: Allotment | None, now_s: float) -> None:
        """Believe the answer to the newest ask; None: the control plane does not know this account."""
        self.heard_s, self.doubtful = now_s, False
        self.wanted = 0
        if answer is None:
            self.left = self.elsewhere = self.at_best = 0
            return
        self.granted, self.recalled = answer.granted, answer.recall
        self.left, self.elsewhere, self.at_best = answer.left, answer.elsewhere, answer.at_best


class Accounts:
    """All accounts of one life of a worker, and the asks about them: one at a time, each with a higher number.

    `away`: the last ask was not answered. `spoken`: one was, in this life.
    """

    def __init__(self, boot: str, *, workers: int = 1) -> None:
        self._boot = boot
        self._workers = workers
        self._known: dict[str, Account] = {}
        self._at_rest: dict[str, int] = {}  # spent of accounts that are put away: granted is for a whole life
        self._number = 0
        self._asked_s = 0.0
        self._asked: tuple[Account, ...] = ()
        self.away = False
        self.spoken = False

    def __iter__(self) -> Iterator[Account]:
        return iter(self._known.values())

    def open(self, word: str, budget: SnapshotBudget) -> Account:
        """Return the account; a newer snapshot may have changed its exception."""
        beyond = budget.exception // self._workers
        account = self._known.get(word)
        if account is None:
            account = self._known[word] = Account(word, budget, spent=self._at_rest.pop(word, 0), beyond=beyond)
        account.budget, account.beyond = budget, beyond
        return account

    def ask(self, now_s: float) -> AskAllotments | None:
        """Return the next ask, None when there is nothing to say."""
        due = [account for account in self if _has_something_to_say(account)]
        if len(due) > MOST_ACCOUNTS:
            due = sorted(due, key=attrgetter("heard_s"))[:MOST_ACCOUNTS]
        if not due:
            return None
        since_s, self._asked_s = now_s - self._asked_s, now_s
        self._asked = tuple(due)
        self._number += 1
        asks = tuple(account.ask(now_s, since_s) for account in due)
        return AskAllotments(boot=self._boot, number=self._number, accounts=asks)

    def hear(self, number: int, answers: Iterable[Allotment], now_s: float) -> None:
        """Believe an answer if it is the one to the newest ask."""
        if number != self._number:
            return
        told = {answer.account: answer for answer in answers}
        for account in self._asked:
            account.hear(told.get(account.word), now_s)
        self.away, self.spoken = False, True

    def hear_nothing(self, number: int) -> None:
        """The newest ask was not answered, or nobody knows whether it arrived."""
        if number == self._number:
            self._number += 1  # its answer may still come, and is not believed
            self.away = True

    def give_back(self) -> None:
        """Let the next ask give up all that is not in use."""
        for account in self:
            account.recalled = True

    def forget(self, now: datetime, now_s: float) -> bool:
        """Keep of accounts at rest what was spent alone, of those whose period is over nothing; say whether there were.

        Whoever holds on to one that is forgotten must ask for it anew: `open`.
        """
        before = len(self._known)
        for account in tuple(self):
            told = account.used == account.spent and not _has_something_to_say(account)
            at_rest = told and now_s - account.touched_s > 6 * IDLE_S
            if not at_rest:
                continue
            del self._known[account.word]
            ends_at = account.budget.ends_at
            if ends_at is None or now < ends_at:
                self._at_rest[account.word] = account.spent
        return len(self._known) < before


def _has_something_to_say(account: Account) -> bool:
    """Say whether it must have more, has something that could go back, or was used or asked for unheard."""
    is_short, is_used = account.wanted > account.granted, account.spent != account.last_spent
    return account.doubtful or is_short or account.free != 0 or is_used
