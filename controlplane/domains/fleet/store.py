from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypeAlias

from sqlalchemy import Row, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import defer

from controlplane.contracts.agent import GpuReading, NodeReport
from controlplane.domains.fleet.tables import (
    CordonedGpu,
    GpuObservation,
    NodeDeclaration,
    NodeObservation,
    ZoneDeclaration,
)
from controlplane.domains.fleet.types import DeclaredNode, GpuState, Zone
from controlplane.kit.tx import Tx, changed_one

SeenColumns: TypeAlias = tuple[
    str, str, str, int, str, int, int | None, int | None, int | None, list[str] | None, str
]  # fmt: skip


async def list_declarations(tx: Tx) -> Sequence[NodeDeclaration]:
    return (await tx.session.scalars(select(NodeDeclaration).order_by(NodeDeclaration.name))).all()


async def list_observations(tx: Tx) -> Sequence[NodeObservation]:
    query = select(NodeObservation).order_by(NodeObservation.node).options(defer(NodeObservation.host, raiseload=True))
    return (await tx.session.scalars(query)).all()


async def list_gpus(tx: Tx, node: str | None = None) -> Sequence[GpuObservation]:
    """Return the GPUs of the site, or of one node, without the rest of their readings."""
    query = select(GpuObservation).order_by(GpuObservation.node, GpuObservation.position)
    if node is not None:
        query = query.where(GpuObservation.node == node)
    return (await tx.session.scalars(query.options(defer(GpuObservation.reading, raiseload=True)))).all()


async def list_seen(tx: Tx) -> Sequence[Row[SeenColumns]]:
    """Return the same of the whole site as plain rows, for that is asked at every decision of placement."""
    g = GpuObservation
    query = select(
        g.uuid, g.node, g.name, g.memory_total_bytes, g.state, g.position, g.minor, g.nvlink_island, g.numa_node, g.mig,
        g.vbios,
    )  # fmt: skip
    return (await tx.session.execute(query.order_by(g.node, g.position))).all()


async def list_names(tx: Tx, uuids: Iterable[str]) -> Sequence[Row[tuple[str, str]]]:
    query = select(GpuObservation.uuid, GpuObservation.name).where(GpuObservation.uuid.in_(list(uuids)))
    return (await tx.session.execute(query)).all()


async def find_gpu(tx: Tx, uuid: str) -> GpuObservation | None:
    query = select(GpuObservation).where(GpuObservation.uuid == uuid).execution_options(populate_existing=True)
    return (await tx.session.scalars(query)).one_or_none()


async def list_cordons(tx: Tx) -> Sequence[CordonedGpu]:
    return (await tx.session.scalars(select(CordonedGpu).order_by(CordonedGpu.uuid))).all()


async def find_cordon(tx: Tx, uuid: str) -> CordonedGpu | None:
    return (await tx.session.scalars(select(CordonedGpu).where(CordonedGpu.uuid == uuid))).one_or_none()


async def add_cordon(tx: Tx, *, uuid: str, reason: str, owner: str) -> bool:
    """Cordon a GPU that is not; say whether that was so."""
    row = insert(CordonedGpu).values(uuid=uuid, reason=reason, owner=owner, at=tx.now)
    return await changed_one(tx, row.on_conflict_do_nothing(index_elements=["uuid"]))


async def mark_exposed(tx: Tx, uuids: Iterable[str]) -> None:
    """Make these cordoned GPUs exposed and the others not."""
    is_exposed = CordonedGpu.uuid.in_(sorted(uuids))
    await tx.session.execute(update(CordonedGpu).where(is_exposed != CordonedGpu.exposed).values(exposed=is_exposed))


async def delete_cordon(tx: Tx, uuid: str) -> bool:
    return await changed_one(tx, delete(CordonedGpu).where(CordonedGpu.uuid == uuid))


async def list_zones(tx: Tx) -> Sequence[ZoneDeclaration]:
    return (await tx.session.scalars(select(ZoneDeclaration).order_by(ZoneDeclaration.name))).all()


async def mark_declared(tx: Tx, nodes: Iterable[DeclaredNode], zones: Iterable[Zone]) -> None:
    """Make the declarations these and no others."""
    await tx.session.execute(delete(ZoneDeclaration))
    tx.session.add_all(ZoneDeclaration(**asdict(zone)) for zone in zones)
    await tx.session.execute(delete(NodeDeclaration))
    tx.session.add_all(
        NodeDeclaration(
            name=node.name,
            address=node.address,
            zone=node.zone,
            purposes=list(node.purposes),
            gpus=[{"type": gpus.type, "count": gpus.count, "mig": list(gpus.mig)} for gpus in node.gpus],
            declared_at=tx.now,
        )
        for node in nodes
    )


async def mark_observed(tx: Tx, node: str, zone: str, report: NodeReport) -> bool:
    """Keep the report unless a newer one of the same boot is there; say whether it was kept."""
    values = {
        "node": node,
        "zone": zone,
        "boot_id": report.host.boot_id,
        "sequence": report.sequence,
        "observed_at": report.observed_at,
        "received_at": tx.now,
        "driver": report.driver,
        "host": report.host.model_dump(),
    }
    older = (NodeObservation.sequence < report.sequence) | (NodeObservation.boot_id != report.host.boot_id)
    # a restarted agent counts from one again: its own silence must not make it unheard
    older |= NodeObservation.observed_at < report.observed_at
    upsert = insert(NodeObservation).values(values)
    kept = await tx.session.execute(
        upsert.on_conflict_do_update(index_elements=["node"], set_=values, where=older).returning(NodeObservation.node)
    )
    return kept.first() is not None


async def mark_gpus(tx: Tx, node: str, report: NodeReport) -> None:
    """Write what the node sees now; its GPUs that it no longer names are missing, those that do not answer lost."""
    present = {gpu.uuid for gpu in report.gpus}
    lost = {gpu.index for gpu in report.lost_gpus}
    gone = (GpuObservation.node == node) & GpuObservation.uuid.not_in(present)
    await tx.session.execute(update(GpuObservation).where(gone).values(state=GpuState.MISSING))
    await tx.session.execute(
        update(GpuObservation).where(gone, GpuObservation.position.in_(lost)).values(state=GpuState.LOST)
    )
    told_of = {gpu.uuid: _observed(tx, node, gpu) for gpu in report.gpus}
    if not told_of:
        return
    fresh = insert(GpuObservation).values([told_of[uuid] for uuid in sorted(told_of)])
    told = {column.name: column for column in fresh.excluded if column.name != "uuid"}
    await tx.session.execute(fresh.on_conflict_do_update(index_elements=["uuid"], set_=told))


def _observed(tx: Tx, node: str, gpu: GpuReading) -> dict[str, object]:
    return {
        "uuid": gpu.uuid,
        "node": node,
        "position": gpu.index,
        "name": gpu.name,
        "memory_total_bytes": gpu.memory_total_bytes,
        "state": GpuState.PRESENT,
        "minor": gpu.minor,
        "nvlink_island": gpu.nvlink_island,
        "numa_node": gpu.numa_node,
        "vbios": gpu.vbios or "",
        "mig": None if gpu.mig is None else [instance.profile for instance in gpu.mig],
        "reading": gpu.model_dump(mode="json"),
        "seen_at": tx.now,
    }
