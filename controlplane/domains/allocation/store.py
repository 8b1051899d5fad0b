from collections.abc import Iterable, Sequence

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


async def list_live_gpus(tx: Tx) -> dict[str, list[str]]:
    """Return the GPUs of each live lease that is bound."""
    query = select(LeasedGpu.lease_id, LeasedGpu.gpu_uuid).where(LeasedGpu.released_at.is_(None))
    found: dict[str, list[str]] = {}
    for lease_id, uuid in (await tx.session.execute(query.order_by(LeasedGpu.gpu_uuid))).tuples():
        found.setdefault(lease_id, []).append(uuid)
    return found


async def list_leases(tx: Tx, page: Page, *, live: bool) -> Sequence[Lease]:
    query = select(Lease).order_by(Lease.id).limit(page.limit)
    if live:
        query = query.where(Lease.ended_at.is_(None))
    if page.after is not None:
        query = query.where(Lease.id > page.after)
    return (await tx.session.scalars(query)).all()


async def find_lease(tx: Tx, lease_id: str) -> Lease | None:
    return await tx.session.get(Lease, lease_id)


async def list_gpus_of(tx: Tx, lease_id: str) -> Sequence[str]:
    """Return the GPUs that a lease has or had."""
    query = select(LeasedGpu.gpu_uuid).where(LeasedGpu.lease_id == lease_id).order_by(LeasedGpu.gpu_uuid)
    return (await tx.session.scalars(query)).all()


async def find_live_lease(tx: Tx, owner: str) -> Lease | None:
    query = select(Lease).where(Lease.owner == owner, Lease.ended_at.is_(None)).with_for_update()
    return (await tx.session.scalars(query)).one_or_none()


async def list_holders(tx: Tx, gpu_uuids: Iterable[str]) -> Sequence[Lease]:
    """Return the live leases that hold any of these GPUs, locked."""
    holding = select(LeasedGpu.lease_id).where(LeasedGpu.gpu_uuid.in_(gpu_uuids), LeasedGpu.released_at.is_(None))
    query = select(Lease).where(Lease.id.in_(holding), Lease.ended_at.is_(None)).order_by(Lease.id).with_for_update()
    return (await tx.session.scalars(query)).all()


async def list_expired(tx: Tx) -> Sequence[Lease]:
    """Return live leases whose time is over, locked; those that another transaction works on come next time."""
    over = Lease.ended_at.is_(None) & (Lease.expires_at < tx.now)
    return (await tx.session.scalars(select(Lease).where(over).with_for_update(skip_locked=True))).all()


def add(tx: Tx, row: Lease | LeasedGpu) -> None:
    tx.session.add(row)


async def mark_ended(tx: Tx, lease: Lease, reason: str) -> None:
    lease.ended_at, lease.end_reason = tx.now, reason[:2000]
    mine = (LeasedGpu.lease_id == lease.id) & LeasedGpu.released_at.is_(None)
    await tx.session.execute(update(LeasedGpu).where(mine).values(released_at=tx.now))
