"""The ledger of one worker: a request clears every account above it or none, and waits while more may come."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil

import structlog

from controlplane.contracts.budgets import Allotment, AskAllotments
from controlplane.gateway.budget.accounts import Account, Accounts
from controlplane.gateway.budget.book import Binding, Book
from controlplane.gateway.budget.budgets import Asking, Hold, unbudgeted
from controlplane.gateway.budget.hold import BudgetHold
from controlplane.gateway.budget.needs import COMPLETION, GPU, PROMPT, RETRIES, SHORTEST_MS, WALL, Needs, needs_of
from controlplane.gateway.budget.retries import Retries
from controlplane.gateway.budget.templates import Count, Templates
from controlplane.gateway.errors import BudgetExhausted, BudgetUnknown, Refusal
from controlplane.gateway.request import Request
from controlplane.kit.clock import Clock

log = structlog.get_logger()

HOLD_S = 60.0  # a hold that nobody renews ends after this
WAIT_S = 4.0  # below the time that an exchange waits for its hold
SOON_S = 2  # when others may have given something back
FRESH_S = 0.5  # so long an answer of the control plane is the newest word


@dataclass(slots=True)
class _Waiting:
    request: Request
    asking: Asking
    binding: Binding
    needs: Needs
    since_s: float
    counts: bool = False  # a replica is counting the prompt


class Ledger:
    """`now_s` is the loop's time. `wake` asks the control plane before it is due, `soon` is the loop's next turn."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        clock: Clock,
        now_s: Callable[[], float],
        wake: Callable[[], None],
        soon: Callable[[Callable[[], None]], object],
        retries: Retries,
        count: Count,
        is_leaving: Callable[[], bool],
    ) -> None:
        self.accounts = accounts
        self.now_s = now_s
        self.holds: set[BudgetHold] = set()
        self._clock = clock
        self._wake = wake
        self._soon = soon
        self._retries = retries
        self._is_leaving = is_leaving
        self._count = count
        self._templates = Templates(count, now_s)
        self._waiting: list[_Waiting] = []
        self._considers = False
        self._missing: dict[Account, int] = {}
        self._book: Book | None = None
        self._swept_s = 0.0

    # --- what an exchange asks

    def clear(self, request: Request, asking: Asking) -> Hold | None:
        binding = self._book_of(request).binding_of(request)
        if binding is None:
            return unbudgeted(request)
        digest = self._retries.digest_of(request) if RETRIES in binding.units else None
        retry = digest is not None and self._retries.has_seen(digest)
        template = self._templates.tokens_of(request) if PROMPT in binding.units else None
        needs = needs_of(request, binding.units, template_tokens=template, retry=retry, digest=digest)
        hold = self._take(asking, binding, needs)
        if hold is None:
            self._waiting.append(_Waiting(request, asking, binding, needs, self.now_s()))
            self._soon(self._consider_all)
        return hold

    def _book_of(self, request: Request) -> Book:
        book = self._book
        if book is None or book.directory is not request.directory:
            book = self._book = Book(request.directory, self.accounts)
        return book

    def _take(self, asking: Asking, binding: Binding, needs: Needs, *, beyond: bool = False) -> BudgetHold | None:
        """Hold everything, or nothing where one account has too little."""
        amounts = needs.amounts
        for account in binding.accounts:
            if amounts[account.unit] > account.granted - account.used + (account.beyond if beyond else 0):
                return None
        hold = BudgetHold(self, asking, binding.accounts, needs, self.now_s(), HOLD_S)
        self.holds.add(hold)
        if needs.digest is not None:
            self._retries.note(needs.digest)
        for account in binding.accounts:
            if account.granted - account.used < account.low:
                self._wake()
                break
        return hold

    # --- while it waits for more

    def _consider_all(self) -> None:
        """Go through those who wait, in the order in which they came."""
        if self._considers:
            return  # from within: what settles meanwhile is seen by the next turn
        self._considers = True
        try:
            self._consider_each()
        finally:
            self._considers = False

    def _consider_each(self) -> None:
        for account in self._missing:
            account.wanted = 0
        self._missing.clear()
        waiting, self._waiting = deque(self._waiting), []
        try:
            while waiting:
                one = waiting.popleft()
                if not self._is_decided(one):
                    self._waiting.append(one)
        finally:
            self._waiting += waiting  # what one of them does wrong is nothing to the others

    def _is_decided(self, one: _Waiting) -> bool:
        if not one.asking.renews():
            return True  # the client has left
        try:
            hold = self._decide(one)
        except Refusal as refusal:
            one.asking.not_cleared(refusal)
            return True
        if hold is not None:
            one.asking.cleared(hold)
        return hold is not None

    def _decide(self, one: _Waiting) -> BudgetHold | None:
        """Return its hold, None while it should wait. Raises BudgetExhausted or BudgetUnknown."""
        hold = self._take(one.asking, one.binding, one.needs)
        if hold is not None or one.counts:
            return hold
        short = [a for a in one.binding.accounts if one.needs.amounts[a.unit] > a.free]
        if self._may_still_come(one, short):
            return None
        if not one.needs.exact and any(account.unit == PROMPT and account.free > 0 for account in short):
            self._count_prompt(one)
            return None
        _lower(one.needs, one.binding.accounts, beyond=self._goes_beyond)
        hold = self._take(one.asking, one.binding, one.needs, beyond=self._goes_beyond)
        if hold is None:
            raise self._refusal(one.needs, short)
        return hold

    @property
    def _goes_beyond(self) -> bool:
        """Say whether exceptions hold. One that leaves has none: who takes over has them."""
        return self.accounts.away and self.accounts.spoken and not self._is_leaving()

    def _may_still_come(self, one: _Waiting, short: list[Account]) -> bool:
        """Say whether waiting helps, and ask for what is missing."""
        now_s = self.now_s()
        if self.accounts.away or now_s - one.since_s > WAIT_S:
            return False
        helps = False
        for account in short:
            need = one.needs.amounts[account.unit]
            self._missing[account] = self._missing.get(account, 0) + need
            unheard = now_s - account.heard_s > FRESH_S
            held_here = account.used > account.spent and account.at_best >= need
            helps = helps or unheard or held_here or account.left > 0 or account.elsewhere > 0
        if helps:
            for account in short:
                account.wanted = account.used + self._missing[account]
            self._wake()
        return helps

    def _count_prompt(self, one: _Waiting) -> None:
        def counted(tokens: int | None) -> None:
            one.counts = False
            bound = one.needs.amounts[PROMPT]
            one.needs.count_prompt(bound if tokens is None else min(tokens, bound))
            self._consider_all()

        one.counts = True
        self._count(one.request, counted)

    def _refusal(self, needs: Needs, short: list[Account]) -> Refusal:
        account = short[0]
        budget = account.budget
        whose = f"{budget.scope} {budget.name or budget.share}"
        if self.accounts.away:
            return BudgetUnknown(
                f"what this gateway may use of the {budget.unit} of {whose} is used, and no more can be had now",
                remedy="try again in a few seconds; operators: look at the control plane",
            )
        need, left = needs.amounts[account.unit], max(0, account.left + account.free)
        return BudgetExhausted(
            f"the {budget.unit} of {whose} are used up: {need} wanted, {left} left",
            remedy=f"wait for the next period, or ask an operator to raise {budget.budget_id.partition('@')[0]}",
            retry_after_s=self._retry_after_s(account, need),
        )

    def _retry_after_s(self, account: Account, need: int) -> int:
        if account.at_best >= need:
            return SOON_S  # holds of others may come back
        ends_at = account.budget.ends_at
        return 0 if ends_at is None else max(SOON_S, ceil((ends_at - self._clock.now()).total_seconds()))

    # --- what the control plane says

    def ask(self) -> AskAllotments | None:
        """Return what to ask the control plane, None for nothing."""
        return self.accounts.ask(self.now_s())

    def hear(self, number: int, answers: Iterable[Allotment]) -> None:
        self.accounts.hear(number, answers, self.now_s())
        self._consider_all()

    def hear_nothing(self, number: int) -> None:
        self.accounts.hear_nothing(number)
        self._consider_all()

    @property
    def is_short(self) -> bool:
        """Say whether somebody waits."""
        return bool(self._waiting)

    # --- how holds end

    def settled(self, hold: BudgetHold) -> None:
        self.holds.discard(hold)
        if self._waiting:
            self._soon(self._consider_all)

    def not_bounded(self, told: int, held: int) -> None:
        """A replica tells of more than could be: an engine that lies, or a bound of ours that is wrong."""
        log.error("budget.not_bounded", told=told, held=held)

    def sweep(self, now_s: float) -> None:
        """Renew the holds of requests that are under way, and end the others."""
        if self._waiting:
            self._consider_all()
        if now_s - self._swept_s < 1:
            return
        self._swept_s = now_s
        for hold in tuple(self.holds):
            if hold.ends_at_s - now_s < HOLD_S / 2:
                self._renew(hold, now_s)
        if not self._waiting and self.accounts.forget(self._clock.now(), now_s):
            self._book = None  # it holds the accounts that were forgotten

    def _renew(self, hold: BudgetHold, now_s: float) -> None:
        asking = hold.asking
        if asking is not None and asking.renews():
            hold.ends_at_s = min(now_s + HOLD_S, hold.last_s)
        if hold.ends_at_s <= now_s:
            if asking is not None:
                asking.hold_over()
            hold.settle_whole()


def _lower(needs: Needs, accounts: tuple[Account, ...], *, beyond: bool) -> None:
    """Ask for no more of what can be bounded than there is; leave at least one token and one second."""
    least: dict[int, int] = {}
    for account in accounts:
        free = account.free + (account.beyond if beyond else 0)
        least[account.unit] = min(free, least.get(account.unit, free))
    if COMPLETION in least and needs.most_tokens:
        needs.lower_tokens(max(1, min(needs.most_tokens, least[COMPLETION] // needs.choices)))
    time_ms = needs.amounts[WALL]
    if GPU in least and needs.gpus:
        time_ms = min(time_ms, least[GPU] // needs.gpus)
    needs.lower_time(max(SHORTEST_MS, min(time_ms, least.get(WALL, time_ms))))
