"""Nodes and GPUs: declared by the site spec, observed by agents, shown side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Row

from controlplane.contracts.agent import NodeReport
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import rules, store
from controlplane.domains.fleet.tables import CordonedGpu, GpuObservation, NodeDeclaration
from controlplane.domains.fleet.types import (
    DeclaredGpus,
    DeclaredNode,
    GpuCordon,
    GpuState,
    GpuView,
    NodeView,
    SeenGpu,
    Zone,
)
from controlplane.domains.policy import service as policy
from controlplane.kit.errors import Conflict, NotFound
from controlplane.kit.tx import Tx


async def declare_nodes(tx: Tx, actor: Actor, *, nodes: Sequence[DeclaredNode], zones: Sequence[Zone] = ()) -> bool:
    """Make the declared nodes and zones these; say whether that changed anything."""
    await policy.require(tx, actor, "node.declare", "site")
    before = [_to_declared(row) for row in await store.list_declarations(tx)]
    known = sorted((await list_zones(tx)).values(), key=lambda zone: zone.name)
    if sorted(nodes, key=lambda n: n.name) == before and sorted(zones, key=lambda zone: zone.name) == known:
        return False
    await store.mark_declared(tx, nodes, zones)
    facts = {"nodes": [node.name for node in nodes], "zones": [asdict(zone) for zone in zones]}
    await audit.record(tx, actor, "node.declared", "site", **facts)
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


async def list_gpus(tx: Tx, actor: Actor) -> list[tuple[SeenGpu, GpuCordon | None]]:
    """Return every GPU that was ever told of, with its cordon."""
    await policy.require(tx, actor, "node.read", "site")
    cordons = await cordoned_gpus(tx)
    return [(_to_seen(row), cordons.get(row.uuid)) for row in await store.list_gpus(tx)]


async def get_gpu(tx: Tx, actor: Actor, *, uuid: str) -> GpuView:
    await policy.require(tx, actor, "node.read", uuid)
    return await _view_gpu(tx, uuid)


async def cordon_gpu(tx: Tx, actor: Actor, *, uuid: str, reason: str) -> GpuView:
    """Let a GPU take no new work; what runs finishes. The same again changes nothing, another reason conflicts."""
    await policy.require(tx, actor, "gpu.cordon", uuid)
    view = await _view_gpu(tx, uuid)
    if await store.add_cordon(tx, uuid=uuid, reason=reason, owner=actor.id):
        await audit.record(tx, actor, "gpu.cordoned", uuid, node=view.gpu.node, reason=reason)
        return await _view_gpu(tx, uuid)
    view = await _view_gpu(tx, uuid)
    if view.cordon is None or view.cordon.reason != reason:
        told = f"since {view.cordon.at:%Y-%m-%d %H:%M}: {view.cordon.reason}" if view.cordon else "a moment ago"
        raise Conflict(
            f"GPU {uuid} is cordoned already, {told}", remedy=f"redoubt gpu show {uuid}; or uncordon it first"
        )
    return view


async def uncordon_gpu(tx: Tx, actor: Actor, *, uuid: str) -> GpuView:
    """Let a GPU take work again; one that is not cordoned stays so."""
    await policy.require(tx, actor, "gpu.uncordon", uuid)
    view = await _view_gpu(tx, uuid)
    if await store.delete_cordon(tx, uuid):
        await audit.record(tx, actor, "gpu.uncordoned", uuid, node=view.gpu.node)
    return await _view_gpu(tx, uuid)


async def cordoned_gpus(tx: Tx) -> dict[str, GpuCordon]:
    """Return every cordon by the UUID of its GPU. For other domains."""
    return {row.uuid: _to_cordon(row) for row in await store.list_cordons(tx)}


async def find_gpus(tx: Tx, node: str, indexes: Iterable[int]) -> tuple[SeenGpu, ...]:
    """Return the present GPUs of a node that an engine calls by these numbers. For other domains."""
    wanted = set(indexes)
    seen = [_to_seen(row) for row in await store.list_gpus(tx, node)]
    return tuple(gpu for gpu in seen if gpu.state == GpuState.PRESENT and gpu.device in wanted)


async def find_types(tx: Tx, uuids: Iterable[str]) -> dict[str, str]:
    """Return the type of each of these GPUs that a node ever told of. For other domains."""
    return {uuid: rules.gpu_type(name) for uuid, name in await store.list_names(tx, uuids)}


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


async def list_zones(tx: Tx) -> dict[str, Zone]:
    """Return the declared zones by name. For other domains."""
    return {row.name: Zone(row.name, row.jurisdiction, row.clearance) for row in await store.list_zones(tx)}


async def authority_node(tx: Tx) -> str | None:
    """Return the node that is declared to hold the site's authority. For other domains."""
    return next((row.name for row in await store.list_declarations(tx) if "authority" in row.purposes), None)


async def view_fleet(tx: Tx) -> list[NodeView]:
    """Return every node that is declared or reports. For other domains; faces use list_nodes."""
    declared = {row.name: _to_declared(row) for row in await store.list_declarations(tx)}
    seen = {row.node: row for row in await store.list_observations(tx)}
    gpus: dict[str, list[SeenGpu]] = {}
    for found in await store.list_seen(tx):
        gpus.setdefault(found.node, []).append(_to_seen(found))
    cordons = await cordoned_gpus(tx)
    peers = rules.count_peers((row.driver, gpus.get(name, ())) for name, row in seen.items())
    return [
        rules.view_node(
            name,
            declared.get(name),
            seen[name].received_at if name in seen else None,
            tuple(gpus.get(name, ())),
            tx.now,
            driver=seen[name].driver if name in seen else "",
            peers=peers,
            cordons=cordons,
        )
        for name in sorted({*declared, *seen})
    ]


async def _view_gpu(tx: Tx, uuid: str) -> GpuView:
    row = await store.find_gpu(tx, uuid)
    if row is None:
        raise NotFound(f"no node ever reported a GPU {uuid}", remedy="redoubt gpu list")
    cordon = await store.find_cordon(tx, uuid)
    return GpuView(_to_seen(row), _to_cordon(cordon) if cordon else None, row.reading, row.seen_at)


def _to_declared(row: NodeDeclaration) -> DeclaredNode:
    gpus = tuple(_to_declared_gpus(entry) for entry in row.gpus)
    return DeclaredNode(row.name, row.address, row.zone, tuple(row.purposes), gpus)


def _to_declared_gpus(entry: Mapping[str, object]) -> DeclaredGpus:
    mig = entry.get("mig") or ()
    profiles = tuple(str(profile) for profile in mig) if isinstance(mig, list) else ()
    return DeclaredGpus(str(entry["type"]), int(str(entry["count"])), profiles)


def _to_seen(row: GpuObservation | Row[store.SeenColumns]) -> SeenGpu:
    return SeenGpu(
        row.uuid,
        row.node,
        row.name,
        row.memory_total_bytes,
        GpuState(row.state),
        type=rules.gpu_type(row.name),
        index=row.position,
        minor=row.minor,
        island=row.nvlink_island,
        numa=row.numa_node,
        mig=None if row.mig is None else tuple(row.mig),
        vbios=row.vbios,
    )


def _to_cordon(row: CordonedGpu) -> GpuCordon:
    return GpuCordon(row.reason, row.owner, row.at, row.exposed)
