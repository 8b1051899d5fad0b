"""Budgets, and what of them gateways may use: never more than the limit, whoever crashes or is cut off."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.budgets import rules, store
from controlplane.domains.budgets.tables import BudgetAccount, BudgetRow
from controlplane.domains.budgets.types import (
    AccountView,
    Ask,
    HolderOver,
    Holding,
    Life,
    LiveBudget,
    StaleAsk,
    Terms,
    Verdict,
    Window,
)
from controlplane.domains.keys import service as keys
from controlplane.domains.metering import service as metering
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import ShareKind
from controlplane.kit.errors import BadInput, Conflict, NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

_NAMED = ("workflow", "agent", "run", "key")


@dataclass(frozen=True)
class BudgetView:
    """A budget with its accounts of this period; one for each name where it has "*"."""

    budget: BudgetRow
    accounts: tuple[AccountView, ...]


async def create_budget(tx: Tx, actor: Actor, *, terms: Terms) -> BudgetRow:
    """Bound what somebody may use. Raises NotFound, BadInput, or Conflict when there is one for the same."""
    await policy.require(tx, actor, "budget.create", terms.share or terms.name)
    terms = await _checked(tx, actor, terms)
    same = await store.find_same(tx, terms)
    if same is not None:
        detail = f"{same.id} bounds the same already"
        raise Conflict(detail, remedy=f"redoubt budget change {same.id} --most N")
    row = BudgetRow(id=new_id("budget"), made_by=actor.id, created_at=tx.now, **asdict(terms))
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "budget.created", row.id, **asdict(terms))
    return row


async def change_budget(tx: Tx, actor: Actor, *, budget_id: str, most: int | None, exception: int | None) -> BudgetView:
    """Change limit or exception, in units. A lower limit binds once gateways have given back: about a second."""
    row = await _find(tx, budget_id)
    await policy.require(tx, actor, "budget.change", budget_id)
    each = rules.amounts_of(row.unit)
    row.most = row.most if most is None else most * each
    row.exception = row.exception if exception is None else exception * each
    await audit.record(tx, actor, "budget.changed", budget_id, most=row.most, exception=row.exception)
    return await _view(tx, row)


async def end_budget(tx: Tx, actor: Actor, *, budget_id: str) -> BudgetRow:
    """Bound nothing any more by this budget; what was spent stays on record."""
    row = await _find(tx, budget_id)
    await policy.require(tx, actor, "budget.end", budget_id)
    row.ended_at = tx.now
    await audit.record(tx, actor, "budget.ended", budget_id)
    return row


async def list_budgets(tx: Tx, actor: Actor, *, page: Page) -> list[BudgetView]:
    """Return live budgets; a tenant sees those of its own project, its teams and its organisation."""
    await policy.require(tx, actor, "budget.read", Resource("budget", "site", project=actor.project))
    return [await _view(tx, row) for row in await store.list_budgets(tx, page, shares=await _seen(tx, actor))]


async def get_budget(tx: Tx, actor: Actor, *, budget_id: str) -> BudgetView:
    row = await _find(tx, budget_id, lock=False)
    seen = await _seen(tx, actor)
    if seen is not None and row.share not in seen:
        raise _unknown(budget_id)
    await policy.require(tx, actor, "budget.read", Resource("budget", budget_id, project=actor.project))
    return await _view(tx, row)


async def list_live(tx: Tx) -> list[LiveBudget]:
    """Return what the gateways' snapshot must hold."""
    found = []
    for row in await store.list_live(tx):
        period = rules.period_of(Window(row.window), tx.now)
        found.append(LiveBudget(rules.period_id(row.id, period), _terms(row), period.ends_at))
    return found


async def ask_allotments(
    tx: Tx, actor: Actor, *, boot: str, number: int, asks: Sequence[Ask]
) -> list[tuple[Ask, Verdict, bool]]:
    """Return what this life of a worker may use of each account in its whole life, and whether others are short.

    Raises StaleAsk for an ask that is not newer than the last, HolderOver once the spool of that life is closed.
    """
    await policy.require(tx, actor, "allotment.ask", "site")
    if not await store.mark_number(tx, actor.id, boot, number):
        raise StaleAsk(f"ask {number} of {boot} is not newer than the last", remedy="ask again with a higher number")
    me = (actor.id, boot)
    if await metering.list_closed(tx, {me}):
        raise HolderOver(f"the spool {boot} is closed", remedy="restart the gateway: a new life asks anew")
    budgets = await store.get_budgets(tx, sorted({rules.budget_of(ask.account) for ask in asks}))
    known = [ask for ask in {one.account: one for one in asks}.values() if rules.budget_of(ask.account) in budgets]
    if not known:
        return []
    accounts = await store.lock_accounts(tx, {ask.account: rules.budget_of(ask.account) for ask in known})
    holdings = await _holdings(tx, list(accounts))
    answers = [
        _answer(tx, me, ask, budgets, accounts[ask.account], holdings[ask.account])
        for ask in known
        if ask.account in accounts  # one that was forgotten at this moment is told to nobody
    ]
    if answers:
        await store.mark_allotments(tx, actor.id, boot, [(ask, verdict) for ask, verdict, _ in answers])
    return answers


async def fold_lives(tx: Tx, actor: Actor) -> int:
    """Keep one sum of what closed lives spent of each account, and nothing else of them; return of how many accounts.

    At any moment: what a closed life takes of a limit is what it spent, whoever the sum says it was.
    """
    await policy.require(tx, actor, "budget.sweep", "site")
    closed = sorted(await metering.list_closed(tx, await store.list_lives(tx)))[: rules.FOLDED_AT_ONCE]
    await store.delete_holders(tx, closed)  # before any account is locked, as in an ask
    held = await store.list_held(tx, closed, rules.FOLDED_AT_ONCE)
    spent = await metering.list_unfolded(tx, limit=rules.FOLDED_AT_ONCE)
    accounts = sorted({*held, *spent})[: rules.FOLDED_AT_ONCE]
    budgets = await store.get_budgets(tx, sorted({rules.budget_of(account) for account in accounts}))
    known = {account: rules.budget_of(account) for account in accounts if rules.budget_of(account) in budgets}
    if accounts:
        await _fold(tx, actor, known, accounts, closed)
        await audit.record(tx, actor, "budget.folded", "site", accounts=len(accounts), lives=len(closed))
    return len(accounts)


async def _fold(tx: Tx, actor: Actor, known: dict[str, str], accounts: Sequence[str], closed: Sequence[Life]) -> None:
    if known:
        await store.lock_accounts(tx, known)  # who asks sees a life with its allotment, or neither
    await metering.fold_spent(tx, actor, accounts)
    await store.delete_allotments(tx, accounts, closed)


async def forget_periods(tx: Tx, actor: Actor) -> int:
    """Forget accounts of periods and budgets that ended long ago; return how many. Nothing is granted of them."""
    await policy.require(tx, actor, "budget.sweep", "site")
    accounts = await store.lock_over(tx, tx.now - rules.PERIODS_KEPT, rules.FOLDED_AT_ONCE)
    if accounts:
        await store.delete_allotments(tx, accounts, None)
        await metering.forget_spent(tx, actor, accounts)
        await store.delete_accounts(tx, accounts)
        await audit.record(tx, actor, "budget.forgotten", "site", accounts=len(accounts), first=accounts[0])
    return len(accounts)


def _answer(
    tx: Tx, me: Life, ask: Ask, budgets: dict[str, BudgetRow], account: BudgetAccount, holdings: dict[Life, Holding]
) -> tuple[Ask, Verdict, bool]:
    row = budgets[account.budget_id]
    recalled = account.short_at is not None and tx.now - account.short_at < rules.RECALLED_FOR
    others = [holding for life, holding in holdings.items() if life != me]
    own = holdings.get(me, Holding())
    verdict = rules.decide(_most(tx, row, ask.account), others, own, ask, recalled=recalled)
    if verdict.short and verdict.elsewhere:
        account.short_at, account.short_boot = tx.now, me[1]
    return ask, verdict, recalled and account.short_boot != me[1]


def _most(tx: Tx, row: BudgetRow, account: str) -> int:
    """Return the limit; 0 for an account that nothing is granted from any more."""
    named = row.name == "*"
    is_now = rules.is_account_of(account, row.id, window=Window(row.window), named=named, now=tx.now)
    return row.most if is_now and row.ended_at is None else 0


async def _holdings(tx: Tx, accounts: Sequence[str]) -> dict[str, dict[Life, Holding]]:
    """Return who has what of locked accounts. Closed is asked before spent: only then is what was spent final."""
    rows = await store.list_allotments(tx, accounts)
    closed = await metering.list_closed(tx, {(row.gateway, row.boot) for row in rows})
    spent = {(s.account, s.gateway, s.boot): s.spent for s in await metering.list_spent(tx, accounts)}
    found: dict[str, dict[Life, Holding]] = {account: {} for account in accounts}
    for row in rows:
        own = spent.pop((row.account, row.gateway, row.boot), 0)
        life = (row.gateway, row.boot)
        found[row.account][life] = Holding(row.granted, row.used, own, closed=life in closed)
    for (account, gateway, boot), amount in spent.items():
        found[account][gateway, boot] = Holding(spent=amount, closed=not boot)
    return found


async def _checked(tx: Tx, actor: Actor, terms: Terms) -> Terms:
    """Return the terms with the share that they are of, in amounts."""
    each = rules.amounts_of(terms.unit)
    named = terms.scope in _NAMED
    if named != bool(terms.name):
        wants = f"a budget of a {terms.scope} names one" if named else f"a budget of a {terms.scope} has no other name"
        raise BadInput(wants, remedy='give --name NAME, or --name "*" for each one' if named else "leave --name out")
    share = terms.share
    if terms.scope == "key" and terms.name != "*":
        share = (await keys.get_key(tx, actor, key_id=terms.name)).project
    elif named:
        await shares.get_share(tx, share)
    elif (await shares.get_share(tx, share)).kind is not ShareKind(terms.scope):
        raise NotFound(f"{share} is no {terms.scope}", remedy=f"redoubt {terms.scope} list")
    return Terms(terms.scope, share, terms.name, terms.unit, terms.window, terms.most * each, terms.exception * each)


async def _seen(tx: Tx, actor: Actor) -> list[str] | None:
    """Return the shares whose budgets the actor sees, None for all."""
    if not actor.project:
        return None
    return [share.name for share in await shares.list_shares(tx, actor)]


async def _view(tx: Tx, row: BudgetRow) -> BudgetView:
    period = rules.period_id(row.id, rules.period_of(Window(row.window), tx.now))
    holdings = await _holdings(tx, await store.list_accounts(tx, row.id, period))
    views = [_account_view(name, holders) for name, holders in holdings.items()]
    return BudgetView(row, tuple(views))


def _account_view(account: str, holdings: dict[Life, Holding]) -> AccountView:
    spent = sum(holding.spent for holding in holdings.values())
    return AccountView(account, spent, sum(rules.taken(holding) for holding in holdings.values()) - spent)


def _terms(row: BudgetRow) -> Terms:
    return Terms(row.scope, row.share, row.name, row.unit, Window(row.window), row.most, row.exception)


async def _find(tx: Tx, budget_id: str, *, lock: bool = True) -> BudgetRow:
    row = await store.find_budget(tx, budget_id, lock=lock)
    if row is None or row.ended_at is not None:
        raise _unknown(budget_id)
    return row


def _unknown(budget_id: str) -> NotFound:
    return NotFound(f"no budget {budget_id}", remedy="redoubt budget list")
