from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from controlplane.contracts.agent import NodeReport
from controlplane.domains.fleet.tables import GpuObservation, NodeDeclaration, NodeObservation
from controlplane.domains.fleet.types import DeclaredNode, GpuState
from controlplane.kit.tx import Tx


async def list_declarations(tx: Tx) -> Sequence[NodeDeclaration]:
    return (await tx.session.scalars(select(NodeDeclaration).order_by(NodeDeclaration.name))).all()


async def list_observations(tx: Tx) -> Sequence[NodeObservation]:
    return (await tx.session.scalars(select(NodeObservation).order_by(NodeObservation.node))).all()


async def list_gpus(tx: Tx) -> Sequence[GpuObservation]:
    query = select(GpuObservation).order_by(GpuObservation.node, GpuObservation.position)
    return (await tx.session.scalars(query)).all()


async def mark_declared(tx: Tx, nodes: Iterable[DeclaredNode]) -> None:
    """Make the declarations these and no others."""
    await tx.session.execute(delete(NodeDeclaration))
    tx.session.add_all(
        NodeDeclaration(
            name=node.name,
            address=node.address,
            zone=node.zone,
            purposes=list(node.purposes),
            gpus=[{"type": gpus.type, "count": gpus.count} for gpus in node.gpus],
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
    for gpu in report.gpus:
        values = {
            "uuid": gpu.uuid,
            "node": node,
            "position": gpu.index,
            "name": gpu.name,
            "memory_total_bytes": gpu.memory_total_bytes,
            "state": GpuState.PRESENT,
            "reading": gpu.model_dump(),
            "seen_at": tx.now,
        }
        await tx.session.execute(
            insert(GpuObservation).values(values).on_conflict_do_update(index_elements=["uuid"], set_=values)
        )
