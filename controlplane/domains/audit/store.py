from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import func, insert, or_, select, text

from controlplane.domains.audit.tables import (
    AuditCheckpoint,
    AuditCosignature,
    AuditEvent,
    AuditHold,
    AuditHoldEnd,
    AuditLeaf,
    AuditNode,
    AuditPersonal,
    AuditPersonalKey,
    AuditPurge,
)
from controlplane.kit.errors import BadInput
from controlplane.kit.merkle import TILE_HEIGHT, Span, Subtree, cover, fold, perfect
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

SEALING = 0x5EA1A0D  # any constant: one advisory lock, so that two sealers do not race


def add_event(tx: Tx, event: AuditEvent) -> None:
    tx.session.add(event)


async def add_personal(tx: Tx, row: AuditPersonal, key: bytes) -> None:
    await tx.session.execute(
        insert(AuditPersonal).values(event_id=row.event_id, subject=row.subject, about=row.about, sealed=row.sealed)
    )
    await tx.session.execute(insert(AuditPersonalKey).values(event_id=row.event_id, key=key))


async def list_events(tx: Tx, page: Page) -> Sequence[AuditEvent]:
    """Newest first."""
    query = select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(page.limit)
    if page.after is not None:
        query = query.where(AuditEvent.seq < to_number(page.after))
    return (await tx.session.scalars(query)).all()


async def list_period(
    tx: Tx, *, began_at: datetime, ended_at: datetime, about: Sequence[str] | None, limit: int
) -> Sequence[AuditEvent]:
    """Return the newest events of a period, newest first; `about` are ids that act, are acted on, or are named."""
    query = select(AuditEvent).where(AuditEvent.at >= began_at, AuditEvent.at < ended_at)
    if about is not None:
        named = [AuditEvent.details[key].astext.in_(about) for key in ("name", "endpoint", "model", "node", "key")]
        query = query.where(or_(AuditEvent.actor.in_(about), AuditEvent.resource.in_(about), *named))
    return (await tx.session.scalars(query.order_by(AuditEvent.seq.desc()).limit(limit))).all()


async def list_leaf_places(tx: Tx, event_ids: Sequence[str]) -> dict[str, int]:
    query = select(AuditLeaf.event_id, AuditLeaf.leaf_index).where(AuditLeaf.event_id.in_(event_ids))
    return {row.event_id: row.leaf_index for row in await tx.session.execute(query)}


def to_number(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 18:
        raise BadInput("the cursor is not one of this list", remedy="start again without a cursor")
    return int(cursor)


async def find_event(tx: Tx, event_id: str) -> AuditEvent | None:
    return (await tx.session.scalars(select(AuditEvent).where(AuditEvent.event_id == event_id))).one_or_none()


async def find_leaf(tx: Tx, event_id: str) -> AuditLeaf | None:
    return (await tx.session.scalars(select(AuditLeaf).where(AuditLeaf.event_id == event_id))).one_or_none()


async def find_personal(tx: Tx, event_id: str) -> tuple[bytes, bytes | None] | None:
    """Return the sealed side record and its key; no key after an erasure."""
    query = (
        select(AuditPersonal.sealed, AuditPersonalKey.key)
        .outerjoin(AuditPersonalKey, AuditPersonalKey.event_id == AuditPersonal.event_id)
        .where(AuditPersonal.event_id == event_id)
    )
    row = (await tx.session.execute(query)).one_or_none()
    return None if row is None else (row.sealed, row.key)


async def list_entries(tx: Tx, start: int, end: int) -> Sequence[tuple[int, bytes, str | None]]:
    """Return leaf index, leaf hash and body (None: purged) of leaves from `start` up to `end`."""
    query = (
        select(AuditLeaf.leaf_index, AuditLeaf.hash, AuditEvent.body)
        .outerjoin(AuditEvent, AuditEvent.seq == AuditLeaf.seq)
        .where(AuditLeaf.leaf_index >= start, AuditLeaf.leaf_index < end)
        .order_by(AuditLeaf.leaf_index)
    )
    return [(row.leaf_index, row.hash, row.body) for row in await tx.session.execute(query)]


async def lock_sealing(tx: Tx) -> None:
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": SEALING})


async def read_horizon(tx: Tx) -> int:
    """Return the transaction id below which no transaction is still running."""
    return int(await tx.session.scalar(text("select (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint")) or 0)


async def list_unsealed(tx: Tx, *, from_xact: int, limit: int) -> Sequence[tuple[int, str, str]]:
    """Return seq, id and body of committed events without a leaf, by the order of writing."""
    query = (
        select(AuditEvent.seq, AuditEvent.event_id, AuditEvent.body)
        .outerjoin(AuditLeaf, AuditLeaf.seq == AuditEvent.seq)
        .where(AuditLeaf.seq.is_(None), AuditEvent.xact >= from_xact)
        .order_by(AuditEvent.seq)
        .limit(limit)
    )
    return [(row.seq, row.event_id, row.body) for row in await tx.session.execute(query)]


async def read_size(tx: Tx) -> int:
    """Return the number of leaves."""
    newest = await tx.session.scalar(select(func.max(AuditLeaf.leaf_index)))
    return 0 if newest is None else newest + 1


async def add_leaves(tx: Tx, size: int, rows: Sequence[tuple[int, str, bytes]]) -> None:
    """Append leaves (seq, event id, hash) to a tree of `size`, and the root of every tile that they fill."""
    await tx.session.execute(
        insert(AuditLeaf),
        [{"leaf_index": size + i, "seq": s, "event_id": e, "hash": h} for i, (s, e, h) in enumerate(rows)],
    )
    level, start, fresh = 0, size, [row[2] for row in rows]
    while fresh:
        first = start - start % (1 << TILE_HEIGHT)
        known = [*(await list_hashes(tx, level, first, start)), *fresh]
        full = len(known) >> TILE_HEIGHT
        fresh = [perfect(known[i << TILE_HEIGHT : (i + 1) << TILE_HEIGHT]) for i in range(full)]
        level, start = level + 1, first >> TILE_HEIGHT
        if fresh:
            nodes = [{"level": level, "number": start + i, "hash": h} for i, h in enumerate(fresh)]
            await tx.session.execute(insert(AuditNode), nodes)


async def list_hashes(tx: Tx, level: int, start: int, end: int) -> Sequence[bytes]:
    """Return the hashes of a tile level from `start` up to `end`."""
    if start == end:
        return ()
    if level == 0:
        leaves = select(AuditLeaf.hash).where(AuditLeaf.leaf_index >= start, AuditLeaf.leaf_index < end)
        found = (await tx.session.scalars(leaves.order_by(AuditLeaf.leaf_index))).all()
    else:
        nodes = select(AuditNode.hash).where(AuditNode.level == level, AuditNode.number >= start)
        found = (await tx.session.scalars(nodes.where(AuditNode.number < end).order_by(AuditNode.number))).all()
    if len(found) != end - start:
        raise LookupError(f"the tree has {len(found)} of {end - start} hashes at level {level} from {start}")
    return found


async def hash_spans(tx: Tx, spans: Iterable[Span], known: dict[Subtree, bytes] | None = None) -> list[bytes]:
    """Return the hash of each span of leaves. `known` is kept between calls: many proofs share most of their hashes."""
    known = {} if known is None else known
    return [fold([await _hash_of(tx, part, known) for part in cover(span)]) for span in spans]


async def _hash_of(tx: Tx, part: Subtree, known: dict[Subtree, bytes]) -> bytes:
    if part not in known:
        level, above = divmod(part.height, TILE_HEIGHT)
        found = await list_hashes(tx, level, part.place << above, (part.place + 1) << above)
        known[part] = perfect(found)
    return known[part]


def add_checkpoint(tx: Tx, row: AuditCheckpoint) -> None:
    tx.session.add(row)


async def find_checkpoint(tx: Tx, size: int | None = None) -> AuditCheckpoint | None:
    """Return the checkpoint of a size, or the newest."""
    query = select(AuditCheckpoint).order_by(AuditCheckpoint.size.desc()).limit(1)
    if size is not None:
        query = query.where(AuditCheckpoint.size == size)
    return (await tx.session.scalars(query)).one_or_none()


async def find_checkpoint_before(tx: Tx, at: datetime) -> AuditCheckpoint | None:
    """Return the newest checkpoint that was made before then."""
    query = select(AuditCheckpoint).where(AuditCheckpoint.made_at < at).order_by(AuditCheckpoint.size.desc())
    return (await tx.session.scalars(query.limit(1))).one_or_none()


async def list_checkpoints(tx: Tx, page: Page) -> Sequence[AuditCheckpoint]:
    """Oldest first."""
    query = select(AuditCheckpoint).order_by(AuditCheckpoint.size).limit(page.limit)
    if page.after is not None:
        query = query.where(AuditCheckpoint.size > to_number(page.after))
    return (await tx.session.scalars(query)).all()


async def list_cosignatures(tx: Tx, sizes: Sequence[int]) -> Sequence[AuditCosignature]:
    """Return what witnesses signed of these sizes."""
    query = select(AuditCosignature).where(AuditCosignature.size.in_(sizes))
    return (await tx.session.scalars(query.order_by(AuditCosignature.size, AuditCosignature.witness))).all()


async def list_witnesses(tx: Tx) -> Sequence[AuditCosignature]:
    """Return each witness's newest cosignature."""
    query = select(AuditCosignature).distinct(AuditCosignature.witness)
    return (await tx.session.scalars(query.order_by(AuditCosignature.witness, AuditCosignature.size.desc()))).all()


async def list_witness_keys(tx: Tx) -> Sequence[AuditCosignature]:
    """Return the newest cosignature by every key that a witness ever signed with."""
    by = AuditCosignature.witness, AuditCosignature.verifier_key
    query = select(AuditCosignature).distinct(*by).order_by(*by, AuditCosignature.size.desc())
    return (await tx.session.scalars(query)).all()


def add_cosignature(tx: Tx, row: AuditCosignature) -> None:
    tx.session.add(row)


async def newest_witnessed_size(tx: Tx) -> int:
    return await tx.session.scalar(select(func.max(AuditCosignature.size))) or 0


async def tells_of_key(tx: Tx, verifier_key: str) -> bool:
    """Say whether the log tells of the change to this key."""
    query = select(AuditEvent.seq).where(
        AuditEvent.event == "audit.key_changed", AuditEvent.details["new"].astext == verifier_key
    )
    return await tx.session.scalar(query.limit(1)) is not None


async def count_missing(tx: Tx, event_ids: Sequence[str]) -> int:
    """Return how many of these events are neither here nor, purged, among the leaves."""
    wanted = set(event_ids)
    if not wanted:
        return 0
    for column in (AuditEvent.event_id, AuditLeaf.event_id):
        wanted -= set((await tx.session.scalars(select(column).where(column.in_(wanted)))).all())
    return len(wanted)


def add(tx: Tx, row: AuditHold | AuditHoldEnd) -> None:
    tx.session.add(row)


async def list_open_holds(tx: Tx) -> Sequence[AuditHold]:
    query = select(AuditHold).outerjoin(AuditHoldEnd, AuditHoldEnd.hold_id == AuditHold.id)
    return (await tx.session.scalars(query.where(AuditHoldEnd.hold_id.is_(None)).order_by(AuditHold.placed_at))).all()


async def read_first_leaf_since(tx: Tx, at: datetime) -> int:
    """Return the first signed leaf that is not older than `at`; if all are, the number of signed leaves."""
    signed = await tx.session.scalar(select(func.max(AuditCheckpoint.size))) or 0
    young = select(func.min(AuditLeaf.leaf_index)).join(AuditEvent, AuditEvent.seq == AuditLeaf.seq)
    first = await tx.session.scalar(young.where(AuditEvent.at >= at))
    return signed if first is None else min(first, signed)


async def count_bodies_before(tx: Tx, before: int) -> int:
    query = select(func.count()).select_from(AuditLeaf).join(AuditEvent, AuditEvent.seq == AuditLeaf.seq)
    return await tx.session.scalar(query.where(AuditLeaf.leaf_index < before)) or 0


async def call_purge(tx: Tx, before: int, event_id: str) -> None:
    await tx.session.flush()
    await tx.session.execute(select(func.audit_purge(before, event_id)))


async def call_erase(tx: Tx, subject: str, event_id: str) -> int:
    await tx.session.flush()
    return int(await tx.session.scalar(select(func.audit_erase(subject, event_id))) or 0)


async def read_purged(tx: Tx) -> tuple[int, datetime | None]:
    """Return the first leaf that no purge took, and the time of the oldest event that is left."""
    before = await tx.session.scalar(select(func.max(AuditPurge.before_leaf))) or 0
    return before, await tx.session.scalar(select(func.min(AuditEvent.at)))
