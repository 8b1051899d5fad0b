from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.serving.tables import Endpoint, Model, ProcessBeat, PublishedSnapshot, Replica, Revision
from controlplane.domains.serving.types import OVER, REGISTERED, ReplicaState
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

CONVERGING = 0xC0117E46  # any constants: one advisory lock each for the whole site
PUBLISHING = 0x5716E


async def lock_converging(tx: Tx) -> None:
    """Let one reconciler at a time decide what to start."""
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": CONVERGING})


async def lock_publishing(tx: Tx) -> None:
    """Let one reconciler at a time read what it signs: an older state must not become the newer version."""
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": PUBLISHING})


def add(tx: Tx, row: Model | Endpoint | Revision | Replica | PublishedSnapshot) -> None:
    tx.session.add(row)


async def find_model(tx: Tx, name: str) -> Model | None:
    return await tx.session.get(Model, name)


async def list_models(tx: Tx, page: Page) -> Sequence[Model]:
    query = select(Model).order_by(Model.name).limit(page.limit)
    if page.after is not None:
        query = query.where(Model.name > page.after)
    return (await tx.session.scalars(query)).all()


async def find_endpoint(tx: Tx, name: str) -> Endpoint | None:
    """Return the live endpoint of that name, locked for this transaction."""
    query = select(Endpoint).where(Endpoint.name == name, Endpoint.deleted_at.is_(None)).with_for_update()
    return (await tx.session.scalars(query)).one_or_none()


async def list_endpoints(tx: Tx, page: Page) -> Sequence[Endpoint]:
    query = select(Endpoint).where(Endpoint.deleted_at.is_(None)).order_by(Endpoint.name).limit(page.limit)
    if page.after is not None:
        query = query.where(Endpoint.name > page.after)
    return (await tx.session.scalars(query)).all()


async def list_all_endpoints(tx: Tx) -> Sequence[Endpoint]:
    """Return every endpoint that lives or still has replicas that are not over."""
    unfinished = select(Replica.endpoint_id).where(Replica.state.not_in(OVER))
    query = select(Endpoint).where(Endpoint.deleted_at.is_(None) | Endpoint.id.in_(unfinished)).order_by(Endpoint.id)
    return (await tx.session.scalars(query)).all()


async def list_live_endpoints(tx: Tx) -> Sequence[Endpoint]:
    return (
        await tx.session.scalars(select(Endpoint).where(Endpoint.deleted_at.is_(None)).order_by(Endpoint.name))
    ).all()


async def list_serving(tx: Tx) -> Sequence[Replica]:
    serving = Replica.state.in_((ReplicaState.READY, ReplicaState.DRAINING))
    return (await tx.session.scalars(select(Replica).where(serving).order_by(Replica.id))).all()


async def get_revision(tx: Tx, revision_id: str) -> Revision:
    return await tx.session.get_one(Revision, revision_id)


async def get_revisions(tx: Tx, ids: set[str]) -> dict[str, Revision]:
    rows = await tx.session.scalars(select(Revision).where(Revision.id.in_(ids)))
    return {row.id: row for row in rows}


async def next_revision_number(tx: Tx, endpoint_id: str) -> int:
    query = select(func.coalesce(func.max(Revision.number), 0)).where(Revision.endpoint_id == endpoint_id)
    return int(await tx.session.scalar(query) or 0) + 1


async def find_replica(tx: Tx, replica_id: str) -> Replica | None:
    """Return the replica, locked for this transaction."""
    return await tx.session.get(Replica, replica_id, with_for_update=True)


async def list_replicas(tx: Tx, endpoint_id: str, since: timedelta, *, lock: bool = False) -> Sequence[Replica]:
    """Return an endpoint's replicas that are not over, or ended within `since`; locked for who will change them."""
    recent = Replica.state.not_in(OVER) | (Replica.ended_at > tx.now - since)
    query = select(Replica).where(Replica.endpoint_id == endpoint_id, recent).order_by(Replica.created_at, Replica.id)
    query = query.with_for_update() if lock else query
    return (await tx.session.scalars(query)).all()


async def list_unfinished(tx: Tx) -> Sequence[Replica]:
    """Return every replica that is not over, locked: a run may report at this very moment."""
    query = select(Replica).where(Replica.state.not_in(OVER)).order_by(Replica.id).with_for_update()
    return (await tx.session.scalars(query)).all()


async def list_starting(tx: Tx) -> Sequence[Replica]:
    """Return, locked, the replicas that the engine has not been told of, the oldest first."""
    told_not = Replica.state.in_((ReplicaState.WANTED, ReplicaState.STARTING)) & (Replica.engine_ref == "")
    query = select(Replica).where(told_not).order_by(Replica.created_at, Replica.id).with_for_update()
    return (await tx.session.scalars(query)).all()


async def list_silent(tx: Tx) -> Sequence[Replica]:
    """Return registered replicas whose lease has run out, locked."""
    late = Replica.state.in_(REGISTERED) & (Replica.lease_expires_at < tx.now)
    return (await tx.session.scalars(select(Replica).where(late).with_for_update(skip_locked=True))).all()


async def find_newest_snapshot(tx: Tx) -> PublishedSnapshot | None:
    query = select(PublishedSnapshot).order_by(PublishedSnapshot.version.desc()).limit(1)
    return (await tx.session.scalars(query)).one_or_none()


async def find_newest_version(tx: Tx) -> int:
    return await tx.session.scalar(select(func.max(PublishedSnapshot.version))) or 0


async def delete_snapshots_before(tx: Tx, version: int) -> None:
    await tx.session.execute(delete(PublishedSnapshot).where(PublishedSnapshot.version < version))


async def mark_beat(tx: Tx, name: str, gap: timedelta) -> None:
    """Say that a process lives; a gap in its beats starts its count anew."""
    row = {"name": name, "up_since": tx.now, "at": tx.now}
    await tx.session.execute(insert(ProcessBeat).values(row).on_conflict_do_nothing())
    late = (ProcessBeat.name == name) & (ProcessBeat.at < tx.now - gap)
    await tx.session.execute(update(ProcessBeat).where(late).values(up_since=tx.now))
    await tx.session.execute(update(ProcessBeat).where(ProcessBeat.name == name).values(at=tx.now))


async def find_beat(tx: Tx, name: str) -> ProcessBeat | None:
    return await tx.session.get(ProcessBeat, name)
