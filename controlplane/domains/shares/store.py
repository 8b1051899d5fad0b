from collections.abc import Sequence

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.shares.tables import PoolRow, ReservationRow, Share, ShareQuota
from controlplane.kit.tx import Tx

SHARES = 0x510715  # any constant: one advisory lock for the whole site


async def lock_shares(tx: Tx) -> None:
    """Let one transaction at a time give out slots and guarantees."""
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": SHARES})


def add(tx: Tx, row: Share | ReservationRow) -> None:
    tx.session.add(row)


async def list_shares(tx: Tx) -> Sequence[Share]:
    """Return every share, archived ones too."""
    return (await tx.session.scalars(select(Share).order_by(Share.name))).all()


async def find_share(tx: Tx, name: str) -> Share | None:
    return await tx.session.get(Share, name)


async def list_quotas(tx: Tx) -> Sequence[ShareQuota]:
    return (await tx.session.scalars(select(ShareQuota).order_by(ShareQuota.share, ShareQuota.gpu_type))).all()


async def mark_quota(tx: Tx, share: str, gpu_type: str, guaranteed: int, most: int) -> None:
    values = {"share": share, "gpu_type": gpu_type, "guaranteed": guaranteed, "most": most, "set_at": tx.now}
    made = insert(ShareQuota).values(values)
    await tx.session.execute(made.on_conflict_do_update(index_elements=["share", "gpu_type"], set_=values))


async def list_pools(tx: Tx) -> Sequence[PoolRow]:
    return (await tx.session.scalars(select(PoolRow).order_by(PoolRow.name))).all()


async def get_pool(tx: Tx, name: str) -> PoolRow:
    return await tx.session.get_one(PoolRow, name, with_for_update=True)


async def find_reservation(tx: Tx, name: str) -> ReservationRow | None:
    query = select(ReservationRow).where(ReservationRow.name == name, ReservationRow.deleted_at.is_(None))
    return (await tx.session.scalars(query.with_for_update())).one_or_none()


async def list_live_reservations(tx: Tx) -> Sequence[ReservationRow]:
    """Return what is or will be kept: neither deleted nor over."""
    over = ReservationRow.ends_at.is_not(None) & (ReservationRow.ends_at <= tx.now)
    query = select(ReservationRow).where(ReservationRow.deleted_at.is_(None), ~over)
    return (await tx.session.scalars(query.order_by(ReservationRow.starts_at, ReservationRow.name))).all()
