from collections.abc import Sequence

from sqlalchemy import select, text, update

from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

GRANTING = 0x5EA5E  # any constant: one advisory lock for the whole site


async def lock_granting(tx: Tx) -> None:
    """Let one transaction at a time count free GPUs and take them."""
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": GRANTING})


async def list_live_leases(tx: Tx) -> Sequence[Lease]:
    return (await tx.session.scalars(select(Lease).where(Lease.ended_at.is_(None)).order_by(Lease.id))).all()


async def list_live_gpus(tx: Tx) -> Sequence[LeasedGpu]:
    return (await tx.session.scalars(select(LeasedGpu).where(LeasedGpu.released_at.is_(None)))).all()


async def list_leases(tx: Tx, page: Page) -> Sequence[Lease]:
    query = select(Lease).order_by(Lease.id).limit(page.limit)
    if page.after is not None:
        query = query.where(Lease.id > page.after)
    return (await tx.session.scalars(query)).all()


async def find_live_lease(tx: Tx, owner: str) -> Lease | None:
    query = select(Lease).where(Lease.owner == owner, Lease.ended_at.is_(None)).with_for_update()
    return (await tx.session.scalars(query)).one_or_none()


def add(tx: Tx, row: Lease | LeasedGpu) -> None:
    tx.session.add(row)


async def mark_ended(tx: Tx, lease: Lease) -> None:
    lease.ended_at = tx.now
    mine = (LeasedGpu.lease_id == lease.id) & LeasedGpu.released_at.is_(None)
    await tx.session.execute(update(LeasedGpu).where(mine).values(released_at=tx.now))
