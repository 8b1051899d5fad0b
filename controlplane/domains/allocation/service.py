"""Leases: the right to whole GPUs, granted by a rule and bound to what the engine gave."""

from collections import Counter
from collections.abc import Sequence

from controlplane.domains.allocation import rules, store
from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.domains.allocation.types import Ask, FreeGpus, Placement, Refusal
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.types import GpuState, NodeState, NodeView, SeenGpu
from controlplane.domains.policy import service as policy
from controlplane.kit.errors import Conflict, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


async def grant_lease(tx: Tx, actor: Actor, *, owner: str, ask: Ask, placement: Placement) -> Lease:
    """Take the GPUs of a placement made in this transaction; the first node is only where they are counted."""
    await policy.require(tx, actor, "lease.grant", owner)
    candidate = {c.node: c for c in await free_gpus(tx)}[placement.nodes[0]]
    lease = Lease(
        id=new_id("lease"),
        owner=owner,
        count=ask.count,
        gpu_type=candidate.type,
        node=placement.nodes[0],
        granted_at=tx.now,
    )
    store.add(tx, lease)
    await audit.record(tx, actor, "lease.granted", lease.id, owner=owner, count=ask.count, gpu_type=candidate.type)
    return lease


async def place(tx: Tx, ask: Ask) -> Placement | Refusal:
    """Decide on the fleet as it is; holds the site's granting lock until the transaction ends."""
    await store.lock_granting(tx)
    return rules.choose(ask, await free_gpus(tx))


async def require_possible(tx: Tx, ask: Ask) -> None:
    """Raise Refused when the ask can never fit the fleet as it reports now."""
    nodes = await fleet.view_fleet(tx)
    totals = {node.name: len(_present(node)) for node in nodes}
    refusal = rules.could_ever_fit(ask, await free_gpus(tx), totals)
    if refusal is not None:
        raise Refused(
            f"{ask.count} x {ask.type or 'any GPU'} cannot fit",
            remedy=refusal.remedy,
            code="no_fit",
            reasons=refusal.reasons,
        )


async def unfit_nodes(tx: Tx, ask: Ask) -> tuple[str, ...]:
    """Return the nodes that the engine must leave alone for this ask, however free they are."""
    return rules.unfit(ask, await free_gpus(tx))


async def bind_gpus(tx: Tx, *, owner: str, node: str, gpu_uuids: Sequence[str]) -> None:
    """Write which GPUs the engine gave. Raises Conflict when one is in another live lease, or too few came."""
    lease = await store.find_live_lease(tx, owner)
    if lease is None or len(gpu_uuids) != lease.count:
        raise Conflict(
            f"{owner} holds no lease of {len(gpu_uuids)} GPUs", remedy="the run ends; a new one starts by itself"
        )
    taken = {gpu.gpu_uuid for gpu in await store.list_live_gpus(tx)}.intersection(gpu_uuids)
    if taken:
        raise Conflict(f"leased already: {', '.join(sorted(taken))}", remedy="the run ends; a new one starts by itself")
    lease.node = node
    for uuid in gpu_uuids:
        store.add(tx, LeasedGpu(lease_id=lease.id, gpu_uuid=uuid))


async def end_lease(tx: Tx, actor: Actor, *, owner: str, reason: str) -> None:
    """End the owner's lease, if it has one."""
    await policy.require(tx, actor, "lease.end", owner)
    lease = await store.find_live_lease(tx, owner)
    if lease is not None:
        await store.mark_ended(tx, lease)
        await audit.record(tx, actor, "lease.ended", lease.id, owner=owner, reason=reason)


async def list_leases(tx: Tx, actor: Actor, *, page: Page) -> Sequence[Lease]:
    await policy.require(tx, actor, "lease.read", "site")
    return await store.list_leases(tx, page)


async def free_gpus(tx: Tx) -> list[FreeGpus]:
    """Return what every GPU node could take now."""
    leased = Counter[str]()
    for lease in await store.list_live_leases(tx):
        leased[lease.node] += lease.count
    return [_count(node, leased[node.name]) for node in await fleet.view_fleet(tx) if node.gpus]


def _count(node: NodeView, leased: int) -> FreeGpus:
    gpus = _present(node)
    blocked = node.state not in (NodeState.READY, NodeState.DEGRADED)
    return FreeGpus(
        node=node.name,
        type=_type_word(gpus[0].name) if gpus else "",
        memory_bytes=min((gpu.memory_total_bytes for gpu in gpus), default=0),
        free=max(0, len(gpus) - leased),
        zone=node.zone,
        reason=f"{node.state}: {'; '.join(node.reasons)}" if blocked else "",
    )


def _present(node: NodeView) -> list[SeenGpu]:
    return [gpu for gpu in node.gpus if gpu.state == GpuState.PRESENT]


def _type_word(card_name: str) -> str:
    """Return "h100" for "NVIDIA H100 80GB HBM3": the first word that is no vendor's name."""
    words = [w for w in card_name.lower().replace("-", " ").split() if w not in ("nvidia", "tesla")]
    return words[0] if words else ""
