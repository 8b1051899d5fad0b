from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Select,
    case,
    cast,
    column,
    delete,
    exists,
    false,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert

from controlplane.contracts.spool import Outcome
from controlplane.domains.metering.rules import FAILED, Cell, Names, Slot
from controlplane.domains.metering.tables import (
    AmountSpent,
    GatewaySpool,
    GpuUse,
    InferenceRequest,
    InferenceSum,
    UsageImport,
)
from controlplane.domains.metering.types import (
    After,
    Part,
    Place,
    Ranked,
    Reach,
    Requests,
    Spent,
    UsageOf,
    UsedTime,
    from_us,
)
from controlplane.engines.scheduler import UsedGpus
from controlplane.kit.tx import Tx, any_of

ONLY = 1
SUMMED = [field.name for field in fields(Requests)]
AT_ONCE = 500  # rows a statement


async def find_or_add_spool(tx: Tx, gateway: str, boot: str) -> GatewaySpool:
    """Return the spool's row, locked: the same lines sent twice at once are taken once."""
    start = Place()
    row = {"next_seq": start.next_seq, "last_sha256": start.last_sha256, "first_at": tx.now, "last_at": tx.now}
    await tx.session.execute(insert(GatewaySpool).values(gateway=gateway, boot=boot, **row).on_conflict_do_nothing())
    mine = (GatewaySpool.gateway == gateway) & (GatewaySpool.boot == boot)
    return (await tx.session.scalars(select(GatewaySpool).where(mine).with_for_update())).one()


async def add_spent(tx: Tx, gateway: str, boot: str, sums: Mapping[str, int]) -> None:
    """Add to what a life has spent of accounts."""
    for account in sorted(sums):
        row = {"account": account, "gateway": gateway, "boot": boot, "spent": sums[account]}
        upsert = insert(AmountSpent).values(row)
        more = {"spent": AmountSpent.spent + upsert.excluded.spent}
        await tx.session.execute(upsert.on_conflict_do_update(index_elements=["account", "gateway", "boot"], set_=more))


async def list_spent(tx: Tx, accounts: Sequence[str]) -> list[Spent]:
    names = (AmountSpent.account, AmountSpent.gateway, AmountSpent.boot, AmountSpent.spent)
    query = select(*names).where(AmountSpent.account == any_of(accounts))
    return [Spent(*row) for row in (await tx.session.execute(query)).tuples()]


async def list_unfolded(tx: Tx, limit: int) -> Sequence[str]:
    """Return accounts of which lives that are closed spent, the first by name."""
    query = select(AmountSpent.account).where(_of_closed_life()).distinct().order_by(AmountSpent.account).limit(limit)
    return (await tx.session.scalars(query)).all()


async def fold_spent(tx: Tx, accounts: Sequence[str]) -> None:
    """Make one row of what closed lives spent of each account, in one statement: every sum stays what it is."""
    theirs = (AmountSpent.account == any_of(accounts)) & _of_closed_life()
    gone = delete(AmountSpent).where(theirs).returning(AmountSpent.account, AmountSpent.spent).cte("gone")
    sums = select(gone.c.account, literal(""), literal(""), func.sum(gone.c.spent).cast(BigInteger))
    upsert = insert(AmountSpent).from_select(["account", "gateway", "boot", "spent"], sums.group_by(gone.c.account))
    more = {"spent": AmountSpent.spent + upsert.excluded.spent}
    await tx.session.execute(upsert.on_conflict_do_update(index_elements=["account", "gateway", "boot"], set_=more))


def _of_closed_life() -> ColumnElement[bool]:
    same = (GatewaySpool.gateway == AmountSpent.gateway) & (GatewaySpool.boot == AmountSpent.boot)
    return exists().where(same, GatewaySpool.closed_at.is_not(None))


async def delete_spent(tx: Tx, accounts: Sequence[str]) -> None:
    await tx.session.execute(delete(AmountSpent).where(AmountSpent.account == any_of(accounts)))


async def list_closed(tx: Tx, lives: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    of_them = GatewaySpool.boot == any_of({boot for _, boot in lives})
    query = select(GatewaySpool.gateway, GatewaySpool.boot).where(of_them, GatewaySpool.closed_at.is_not(None))
    return {life for life in (await tx.session.execute(query)).tuples() if life in lives}


async def find_known_until(tx: Tx) -> datetime | None:
    row = await tx.session.get(UsageImport, ONLY)
    return row.known_until if row else None


async def mark_known_until(tx: Tx, at: datetime) -> None:
    upsert = insert(UsageImport).values(id=ONLY, known_until=at)
    await tx.session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"known_until": at}))


async def find_oldest_open(tx: Tx) -> datetime | None:
    oldest: datetime | None = await tx.session.scalar(
        select(func.min(GpuUse.started_at)).where(GpuUse.ended_at.is_(None))
    )
    return oldest


async def mark_used(tx: Tx, used: Sequence[UsedGpus]) -> None:
    """Write starts down, each once; one that is known already gets its end. The same again changes nothing."""
    for first in range(0, len(used), AT_ONCE):
        upsert = insert(GpuUse).values([asdict(use) for use in used[first : first + AT_ONCE]])
        told = {"ended_at": upsert.excluded.ended_at, "state": upsert.excluded.state}
        changed = GpuUse.ended_at.is_distinct_from(upsert.excluded.ended_at) | (GpuUse.state != upsert.excluded.state)
        await tx.session.execute(
            upsert.on_conflict_do_update(index_elements=["ref", "started_at"], set_=told, where=changed)
        )


async def add_requests(tx: Tx, boot: str, outcomes: Sequence[Outcome]) -> None:
    """Write requests down, one row each."""
    rows = [_to_row(boot, outcome) for outcome in outcomes]
    if rows:
        await tx.session.execute(insert(InferenceRequest), rows)


async def find_names(tx: Tx, wanted: Mapping[Slot, Collection[Names]]) -> set[tuple[Slot, Names]]:
    """Return which of these have sums: one look at the index for each."""
    keys = [(*slot, *names) for slot, all_names in wanted.items() for names in all_names]
    of = [getattr(InferenceSum, name) for name in ("span", "starts_at", "share", "workflow", "agent")]
    arrays = (literal([key[number] for key in keys], ARRAY(one.type)) for number, one in enumerate(of))
    asked = func.unnest(*arrays).table_valued(*(column(one.key, one.type) for one in of)).render_derived()
    same = [one == asked.c[one.key] for one in of]
    found = (await tx.session.execute(select(*asked.c).where(exists().where(*same)))).tuples()
    return {((span, starts_at, share), (workflow, agent)) for span, starts_at, share, workflow, agent in found}


async def lock_slots(tx: Tx, slots: Sequence[Slot]) -> None:
    """Let one at a time add names there, in the order of `slots`, before any row of them is locked."""
    for span, starts_at, share in slots:
        key = f"usage {span} {starts_at.isoformat()} {share}"
        await tx.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


async def list_names(tx: Tx, slot: Slot) -> list[Names]:
    """Return the names that have sums there."""
    span, starts_at, share = slot
    there = (InferenceSum.span == span) & (InferenceSum.starts_at == starts_at) & (InferenceSum.share == share)
    query = select(InferenceSum.workflow, InferenceSum.agent).where(there).distinct()
    return [(workflow, agent) for workflow, agent in (await tx.session.execute(query)).tuples()]


async def add_to_sums(tx: Tx, sums: Mapping[Cell, Requests]) -> None:
    """Add to hours and days, in the order of `sums`."""
    if not sums:
        return
    upsert = insert(InferenceSum).values([asdict(cell) | asdict(more) for cell, more in sums.items()])
    grown = {name: getattr(InferenceSum, name) + upsert.excluded[name] for name in SUMMED}
    keys = [field.name for field in fields(Cell)]
    await tx.session.execute(upsert.on_conflict_do_update(index_elements=keys, set_=grown))


async def rank_sums(
    tx: Tx, parts: Sequence[Part], *, of: UsageOf, shares: Sequence[str] | None, limit: int | None, after: After | None
) -> Ranked:
    """Add up hours and days. Of hours, one that is known by its day alone is told as that day."""
    key = _key_of(of).label("key")
    sums = [func.sum(getattr(InferenceSum, name)).cast(BigInteger).label(name) for name in SUMMED]
    query = select(key, *sums).where(or_(false(), *map(_lies_within, parts))).group_by(key)
    if shares is not None:
        query = query.where(InferenceSum.share == any_of(shares))
    return await _rank(tx, query, by_time=of in (UsageOf.DAY, UsageOf.HOUR), limit=limit, after=after)


def _lies_within(part: Part) -> ColumnElement[bool]:
    begins = InferenceSum.starts_at
    return (InferenceSum.span == part.span) & (begins >= part.since) & (begins < part.until)


async def rank_runs(
    tx: Tx, asked: Reach, *, shares: Sequence[str] | None, limit: int | None, after: After | None
) -> Ranked:
    """Add up single requests: runs are too many for sums of their own, and over when their requests are forgotten."""
    row = InferenceRequest
    told_nothing = row.estimated | (row.tokens_in.is_(None) & (row.result != "failed"))
    counts = {
        "calls": func.count(),
        "failures": func.count().filter(row.result.in_(FAILED)),
        "untold": func.count().filter(told_nothing),
        "ttft_calls": func.count(row.ttft_us),
    }
    sums = [
        (counts[name] if name in counts else func.coalesce(func.sum(getattr(row, name)), 0))
        .cast(BigInteger)
        .label(name)
        for name in SUMMED
    ]
    lies_within = (row.ended_at >= asked.since) & (row.ended_at < asked.until)
    query = select(row.run.label("key"), *sums).where(lies_within, row.run != "").group_by(row.run)
    if shares is not None:
        query = query.where(row.share == any_of(shares))
    return await _rank(tx, query, by_time=False, limit=limit, after=after)


async def _rank(
    tx: Tx, grouped: Select[Any], *, by_time: bool, limit: int | None, after: After | None
) -> Ranked:  # `Any`: a key and the sums of SUMMED
    """Return the first rows after one, and how many follow them: the database ranks, and no more leave it."""
    rows = grouped.subquery()
    key, tokens = rows.c.key, rows.c.tokens_in + rows.c.tokens_out
    query = select(func.count().over(), key, *(rows.c[name] for name in SUMMED)).limit(limit)
    query = query.order_by(key) if by_time else query.order_by(tokens.desc(), key)
    if after is not None:
        later = key > after.key
        query = query.where(later if by_time else (tokens < after.tokens) | ((tokens == after.tokens) & later))
    found = (await tx.session.execute(query)).all()
    left = found[0][0] if found else 0
    return Ranked(tuple((name, Requests(*sums)) for _, name, *sums in found), left - len(found))


async def delete_requests_before(tx: Tx, at: datetime) -> None:
    await tx.session.execute(delete(InferenceRequest).where(InferenceRequest.ended_at < at))


async def delete_hours_before(tx: Tx, at: datetime) -> None:
    old = (InferenceSum.span == "hour") & (InferenceSum.starts_at < at)
    await tx.session.execute(delete(InferenceSum).where(old))


def _key_of(of: UsageOf) -> ColumnElement[str]:
    if of in (UsageOf.DAY, UsageOf.HOUR):
        hour = 'YYYY-MM-DD"T"HH24:00"Z"' if of is UsageOf.HOUR else "YYYY-MM-DD"
        form = case((InferenceSum.span == "hour", literal(hour)), else_=literal("YYYY-MM-DD"))
        return func.to_char(func.timezone("UTC", InferenceSum.starts_at), form)
    column: ColumnElement[str] = getattr(InferenceSum, of)
    return column


def _to_row(boot: str, outcome: Outcome) -> dict[str, object]:
    told = outcome.model_dump(exclude={"at_us", "kind", "prev", "project", "seq", "spent", "v"})
    whose = {"share": outcome.project, "ended_at": from_us(outcome.at_us)}
    return {"boot": boot, "line": outcome.seq} | whose | told


async def sum_used_time(tx: Tx, *, since: datetime, until: datetime, accounts: Sequence[str] | None) -> list[UsedTime]:
    """Add up what lies between the two times; a start that is not over counts up to `until`."""
    begin, end = func.greatest(GpuUse.started_at, since), func.least(func.coalesce(GpuUse.ended_at, until), until)
    seconds = cast(func.round(func.sum(func.extract("epoch", end - begin) * GpuUse.gpus)), BigInteger)
    keys = (GpuUse.account, GpuUse.gpu_type, GpuUse.node, GpuUse.name)
    query = (
        select(*keys, seconds, func.count(), func.count().filter(GpuUse.ended_at.is_(None)))
        .where(GpuUse.started_at < until, GpuUse.ended_at.is_(None) | (GpuUse.ended_at > since))
        .group_by(*keys)
    )
    if accounts is not None:
        query = query.where(GpuUse.account.in_(accounts))
    return [UsedTime(*row) for row in (await tx.session.execute(query)).tuples()]
