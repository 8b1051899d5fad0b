from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import case, delete, func, select, tuple_, union
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.budgets.tables import Allotment, BudgetAccount, BudgetHolder, BudgetRow
from controlplane.domains.budgets.types import Ask, Life, Terms, Verdict
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx, any_of, changed_one


def add(tx: Tx, row: BudgetRow) -> None:
    tx.session.add(row)


async def find_budget(tx: Tx, budget_id: str, *, lock: bool) -> BudgetRow | None:
    """Return one. A `lock` keeps other changes out, and lets gateways open accounts of it meanwhile."""
    return await tx.session.get(BudgetRow, budget_id, with_for_update={"key_share": True} if lock else None)


async def find_same(tx: Tx, terms: Terms) -> BudgetRow | None:
    """Return the live budget of the same thing."""
    same = [getattr(BudgetRow, name) == getattr(terms, name) for name in ("scope", "share", "name", "unit", "window")]
    return (await tx.session.scalars(select(BudgetRow).where(*same, BudgetRow.ended_at.is_(None)))).one_or_none()


async def list_live(tx: Tx) -> Sequence[BudgetRow]:
    query = select(BudgetRow).where(BudgetRow.ended_at.is_(None)).order_by(BudgetRow.id)
    return (await tx.session.scalars(query)).all()


async def list_budgets(tx: Tx, page: Page, *, shares: Sequence[str] | None) -> Sequence[BudgetRow]:
    """Return live budgets of these shares, or of all for None."""
    query = select(BudgetRow).where(BudgetRow.ended_at.is_(None)).order_by(BudgetRow.id).limit(page.limit)
    if shares is not None:
        query = query.where(BudgetRow.share.in_(shares))
    if page.after is not None:
        query = query.where(BudgetRow.id > page.after)
    return (await tx.session.scalars(query)).all()


async def mark_number(tx: Tx, gateway: str, boot: str, number: int) -> bool:
    """Keep the number of an ask and lock its holder; say whether it is newer than the last."""
    row = {"gateway": gateway, "boot": boot, "number": number, "asked_at": tx.now}
    upsert = insert(BudgetHolder).values(row)
    told = {"number": number, "asked_at": tx.now}
    return await changed_one(
        tx,
        upsert.on_conflict_do_update(index_elements=["gateway", "boot"], set_=told, where=BudgetHolder.number < number),
    )


async def get_budgets(tx: Tx, ids: Sequence[str]) -> dict[str, BudgetRow]:
    rows = (await tx.session.scalars(select(BudgetRow).where(BudgetRow.id.in_(ids)))).all()
    return {row.id: row for row in rows}


async def lock_accounts(tx: Tx, budgets: Mapping[str, str]) -> dict[str, BudgetAccount]:
    """Lock accounts, in one order for everybody; one that is new is made. `budgets` says whose each is."""
    rows = [{"account": name, "budget_id": budgets[name], "short_boot": ""} for name in sorted(budgets)]
    await tx.session.execute(insert(BudgetAccount).values(rows).on_conflict_do_nothing())
    mine = select(BudgetAccount).where(BudgetAccount.account.in_(budgets)).order_by(BudgetAccount.account)
    return {row.account: row for row in (await tx.session.scalars(mine.with_for_update())).all()}


async def list_lives(tx: Tx) -> set[Life]:
    """Return who asked or was allotted something, and was not folded yet."""
    asked = select(BudgetHolder.gateway, BudgetHolder.boot)
    held = select(Allotment.gateway, Allotment.boot).distinct()
    return {(gateway, boot) for gateway, boot in (await tx.session.execute(union(asked, held))).tuples()}


async def delete_holders(tx: Tx, lives: Collection[Life]) -> None:
    await tx.session.execute(delete(BudgetHolder).where(tuple_(BudgetHolder.gateway, BudgetHolder.boot).in_(lives)))


async def list_held(tx: Tx, lives: Collection[Life], limit: int) -> Sequence[str]:
    """Return accounts that were allotted to these lives, the first by name."""
    theirs = select(Allotment.account).where(tuple_(Allotment.gateway, Allotment.boot).in_(lives)).distinct()
    return (await tx.session.scalars(theirs.order_by(Allotment.account).limit(limit))).all()


async def delete_allotments(tx: Tx, accounts: Sequence[str], lives: Collection[Life] | None) -> None:
    """Delete what these lives have of accounts, or all have for None."""
    gone = delete(Allotment).where(Allotment.account == any_of(accounts))
    if lives is not None:
        gone = gone.where(tuple_(Allotment.gateway, Allotment.boot).in_(lives))
    await tx.session.execute(gone)


async def lock_over(tx: Tx, before: datetime, limit: int) -> Sequence[str]:
    """Lock accounts whose period or budget ended before a time, in the order in which all lock them."""
    name = BudgetAccount.account
    tag = func.split_part(func.split_part(name, "/", 1), "@", 2)
    cut = case((func.length(tag) == len("2026-11"), f"{before:%Y-%m}"), else_=f"{before:%Y-%m-%d}")
    ended = select(BudgetRow.id).where(BudgetRow.ended_at < before)
    over = ((tag != "") & (tag < cut)) | BudgetAccount.budget_id.in_(ended)
    query = select(name).where(over).order_by(name).limit(limit)
    return (await tx.session.scalars(query.with_for_update())).all()


async def delete_accounts(tx: Tx, accounts: Sequence[str]) -> None:
    await tx.session.execute(delete(BudgetAccount).where(BudgetAccount.account == any_of(accounts)))


async def list_accounts(tx: Tx, budget_id: str, period: str) -> Sequence[str]:
    """Return the accounts of a budget in one period: one, or one for each name."""
    name = BudgetAccount.account
    of_period = (name == period) | name.startswith(f"{period}/", autoescape=True)
    query = select(name).where(BudgetAccount.budget_id == budget_id, of_period).order_by(name)
    return (await tx.session.scalars(query)).all()


async def list_allotments(tx: Tx, accounts: Sequence[str]) -> Sequence[Allotment]:
    mine = Allotment.account == any_of(accounts)
    return (await tx.session.scalars(select(Allotment).where(mine))).all()


async def mark_allotments(tx: Tx, gateway: str, boot: str, verdicts: Sequence[tuple[Ask, Verdict]]) -> None:
    rows = [
        {"account": ask.account, "gateway": gateway, "boot": boot, "granted": verdict.granted, "used": ask.used}
        for ask, verdict in verdicts
    ]
    upsert = insert(Allotment).values(rows)
    told = {"granted": upsert.excluded.granted, "used": upsert.excluded.used}
    await tx.session.execute(upsert.on_conflict_do_update(index_elements=["account", "gateway", "boot"], set_=told))
