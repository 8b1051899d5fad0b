"""Nodes and GPUs."""

from fastapi import APIRouter

from controlplane.api.v1.shapes import to_gpu, to_gpu_detail, to_node
from controlplane.contracts import admin
from controlplane.domains.allocation import service as allocation
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.types import DeclaredGpus, DeclaredNode, Zone
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["fleet"])


@router.put("/nodes")
async def declare_nodes(body: admin.DeclareNodes, tx: Transaction, actor: Person) -> admin.Declared:
    """Make the declared nodes and zones these and no others; the same again changes nothing."""
    nodes = [
        DeclaredNode(n.name, n.address, n.zone, n.purposes, tuple(DeclaredGpus(g.type, g.count, g.mig) for g in n.gpus))
        for n in body.nodes
    ]
    zones = [Zone(zone.name, zone.jurisdiction, zone.clearance) for zone in body.zones]
    return admin.Declared(changed=await fleet.declare_nodes(tx, actor, nodes=nodes, zones=zones))


@router.get("/nodes")
async def list_nodes(tx: Transaction, actor: Person) -> admin.Rows[admin.Node]:
    nodes, owners = await fleet.list_nodes(tx, actor), await allocation.gpu_owners(tx)
    return admin.Rows(items=tuple(to_node(view, owners) for view in nodes))


@router.get("/nodes/{name}")
async def get_node(name: str, tx: Transaction, actor: Person) -> admin.Node:
    return to_node(await fleet.get_node(tx, actor, name=name), await allocation.gpu_owners(tx))


@router.get("/gpus")
async def list_gpus(tx: Transaction, actor: Person) -> admin.Rows[admin.Gpu]:
    """List every GPU that was ever told of; what a node no longer shows is `missing`."""
    gpus, owners = await fleet.list_gpus(tx, actor), await allocation.gpu_owners(tx)
    return admin.Rows(items=tuple(to_gpu(gpu, cordon, owners) for gpu, cordon in gpus))


@router.get("/gpus/{uuid}")
async def get_gpu(uuid: str, tx: Transaction, actor: Person) -> admin.GpuDetail:
    return to_gpu_detail(await fleet.get_gpu(tx, actor, uuid=uuid), await allocation.gpu_owners(tx))


@router.put("/gpus/{uuid}/cordon")
async def cordon_gpu(uuid: str, body: admin.CordonGpu, tx: Transaction, actor: Person) -> admin.GpuDetail:
    """Let a GPU take no new work; what runs on it finishes. The same again changes nothing."""
    view = await fleet.cordon_gpu(tx, actor, uuid=uuid, reason=body.reason)
    return to_gpu_detail(view, await allocation.gpu_owners(tx))


@router.delete("/gpus/{uuid}/cordon")
async def uncordon_gpu(uuid: str, tx: Transaction, actor: Person) -> admin.GpuDetail:
    """Let a GPU take work again; one that is not cordoned stays so."""
    return to_gpu_detail(await fleet.uncordon_gpu(tx, actor, uuid=uuid), await allocation.gpu_owners(tx))
