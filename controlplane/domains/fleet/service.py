"""Nodes and GPUs: declared by the site spec, observed by agents, shown side by side."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from controlplane.contracts.agent import NodeReport
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import rules, store
from controlplane.domains.fleet.tables import GpuObservation, NodeDeclaration
from controlplane.domains.fleet.types import DeclaredGpus, DeclaredNode, GpuState, NodeView, SeenGpu
from controlplane.domains.policy import service as policy
from controlplane.kit.errors import NotFound
from controlplane.kit.tx import Tx


async def declare_nodes(tx: Tx, actor: Actor, *, nodes: Sequence[DeclaredNode]) -> bool:
    """Make the declared nodes these; say whether that changed anything."""
    await policy.require(tx, actor, "node.declare", "site")
    before = [_to_declared(row) for row in await store.list_declarations(tx)]
    if sorted(nodes, key=lambda n: n.name) == before:
        return False
    await store.mark_declared(tx, nodes)
    await audit.record(tx, actor, "node.declared", "site", nodes=[node.name for node in nodes])
    return True


async def record_report(tx: Tx, actor: Actor, *, zone: str, report: NodeReport) -> None:
    """Keep a node's reading. It is telemetry, so no audit event: only what changes a decision is one."""
    await policy.require(tx, actor, "node.report", actor.id)
    if await store.mark_observed(tx, actor.id, zone, report):
        await store.mark_gpus(tx, actor.id, report)


async def list_nodes(tx: Tx, actor: Actor) -> list[NodeView]:
    await policy.require(tx, actor, "node.read", "site")
    return await view_fleet(tx)


async def get_node(tx: Tx, actor: Actor, *, name: str) -> NodeView:
    await policy.require(tx, actor, "node.read", name)
    for view in await view_fleet(tx):
        if view.name == name:
            return view
    raise NotFound(f"no node {name}", remedy="redoubt node list")


async def list_gpus(tx: Tx, actor: Actor) -> Sequence[GpuObservation]:
    await policy.require(tx, actor, "node.read", "site")
    return await store.list_gpus(tx)


async def declared_since(tx: Tx) -> dict[str, datetime]:
    """Return the declared nodes and since when they are. For other domains."""
    return {row.name: row.declared_at for row in await store.list_declarations(tx)}


async def find_declared(tx: Tx, *, name: str) -> DeclaredNode:
    """Return a node as the site spec declares it; raises NotFound. For other domains and faces that ask for more."""
    for row in await store.list_declarations(tx):
        if row.name == name:
            return _to_declared(row)
    raise NotFound(
        f"the site spec declares no node {name}", remedy="add it to site.yml, then: redoubt node declare SITE.YML"
    )


async def authority_node(tx: Tx) -> str | None:
    """Return the node that is declared to hold the site's authority. For other domains."""
    return next((row.name for row in await store.list_declarations(tx) if "authority" in row.purposes), None)


async def view_fleet(tx: Tx) -> list[NodeView]:
    """Return every node that is declared or reports. For other domains; faces use list_nodes."""
    declared = {row.name: _to_declared(row) for row in await store.list_declarations(tx)}
    seen = {row.node: row.received_at for row in await store.list_observations(tx)}
    gpus = [_to_seen(row) for row in await store.list_gpus(tx)]
    names: Iterable[str] = sorted({*declared, *seen})
    return [
        rules.view_node(name, declared.get(name), seen.get(name), tuple(g for g in gpus if g.node == name), tx.now)
        for name in names
    ]


def _to_declared(row: NodeDeclaration) -> DeclaredNode:
    gpus = tuple(DeclaredGpus(str(g["type"]), int(str(g["count"]))) for g in row.gpus)
    return DeclaredNode(row.name, row.address, row.zone, tuple(row.purposes), gpus)


def _to_seen(row: GpuObservation) -> SeenGpu:
    return SeenGpu(row.uuid, row.node, row.name, row.memory_total_bytes, GpuState(row.state))
