"""What would have to end so that an ask fits. Slurm preempts; this says whether that would help, and whom it costs."""

from controlplane.domains.allocation.types import Ask, LeaseFact, NodeRoom
from controlplane.domains.shares import rules as shares


def victims(ask: Ask, room: NodeRoom, qos: str) -> tuple[LeaseFact, ...]:
    """Return the fewest leases whose end makes room on a node for work of class `qos`; none when that is not enough.

    Work beyond its guarantee goes first, then what began last. What may not be preempted is never among them.
    """
    held: dict[str, int] = {}
    leases: dict[str, LeaseFact] = {}
    for gpu in room.gpus:
        if not gpu.reason and gpu.lease is not None and may_take(qos, gpu.lease, ask.spared):
            held[gpu.lease.id] = held.get(gpu.lease.id, 0) + 1
            leases[gpu.lease.id] = gpu.lease
    missing, chosen = ask.count + room.owed - room.free, list[LeaseFact]()
    for lease in sorted(leases.values(), key=_cheapest_first):
        if missing <= 0:
            break
        chosen.append(lease)
        missing -= held[lease.id]
    return tuple(_needed(chosen, held, ask.count + room.owed - room.free)) if missing <= 0 else ()


def may_take(qos: str, lease: LeaseFact, spared: frozenset[str] = frozenset()) -> bool:
    """Say whether work of a class may end a lease."""
    return lease.preemptible and lease.owner not in spared and shares.may_preempt(qos, lease.qos)


def _cheapest_first(lease: LeaseFact) -> tuple[bool, float, str]:
    return not lease.over_quota, -lease.granted_at.timestamp(), lease.id


def _needed(chosen: list[LeaseFact], held: dict[str, int], missing: int) -> list[LeaseFact]:
    """Leave out again whom a later, larger choice has made needless, the dearest first."""
    kept = list(chosen)
    for lease in reversed(chosen):
        if sum(held[other.id] for other in kept) - held[lease.id] >= missing:
            kept.remove(lease)
    return kept
