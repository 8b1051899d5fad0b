"""Brings nodes, cordons, leases and reservations together into what placement looks at: one row for like GPUs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from controlplane.domains.allocation.types import GpuRoom, LeaseFact, NodeRoom
from controlplane.domains.fleet.types import GpuCordon, GpuState, NodeState, NodeView, SeenGpu
from controlplane.domains.shares.types import Window


def to_rooms(
    nodes: Iterable[NodeView],
    leases: Iterable[LeaseFact],
    windows: Iterable[Window],
    *,
    tells: bool = True,
) -> tuple[NodeRoom, ...]:
    """Return the rooms of every node with GPUs; unless it `tells`, without who cordoned what and why."""
    held: dict[str, LeaseFact] = {}
    promised = Counter[tuple[str, str]]()
    for lease in leases:
        held.update(dict.fromkeys(lease.gpu_uuids, lease))
        if not lease.gpu_uuids:
            promised[lease.node, lease.gpu_type] += lease.count
    kept: dict[str, list[Window]] = defaultdict(list)
    for window in windows:
        for node in window.nodes or window.chosen:
            kept[node].append(window)
    return tuple(
        _to_room(node, key, gpus, held, promised, tuple(kept.get(node.name, ())), tells=tells)
        for node in nodes
        for key, gpus in _alike(node.gpus).items()
    )


def with_grant(rooms: Sequence[NodeRoom], node: str, gpu_type: str, count: int) -> tuple[NodeRoom, ...]:
    """Return the rooms as they are after a grant that the engine has not bound yet."""
    changed = list(rooms)
    for place, room in enumerate(rooms):
        if (room.node, room.type) == (node, gpu_type):
            owed = room.owed + max(0, count - room.free)
            changed[place] = replace(room, free=max(0, room.free - count), owed=owed)
            break
    return tuple(changed)


def _alike(gpus: Sequence[SeenGpu]) -> dict[tuple[str, int], list[SeenGpu]]:
    found: dict[tuple[str, int], list[SeenGpu]] = {}
    for gpu in gpus:
        if gpu.state != GpuState.MISSING:
            found.setdefault((gpu.type, gpu.memory_total_bytes), []).append(gpu)
    return found


def _to_room(
    node: NodeView,
    key: tuple[str, int],
    seen: Sequence[SeenGpu],
    held: Mapping[str, LeaseFact],
    promised: Counter[tuple[str, str]],
    windows: tuple[Window, ...],
    *,
    tells: bool,
) -> NodeRoom:
    gpus = tuple(
        GpuRoom(gpu.uuid, _island(gpu), _reason(gpu, node.cordons, tells=tells), held.get(gpu.uuid)) for gpu in seen
    )
    free = [gpu for gpu in gpus if not gpu.reason and gpu.lease is None]
    granted = promised.pop((node.name, key[0]), 0)  # what is alike but for its memory is counted once
    blocked = node.state not in (NodeState.READY, NodeState.DEGRADED)
    return NodeRoom(
        node=node.name,
        zone=node.zone,
        type=key[0],
        memory_bytes=key[1],
        gpus=gpus,
        free=max(0, len(free) - granted),
        owed=max(0, granted - len(free)),
        sound=sum(not gpu.reason for gpu in gpus),
        islands=_islands(gpus),
        reason=f"{node.state}: {'; '.join(node.reasons)}" if blocked else _exposed(node),
        windows=windows,
        declared=node.state != NodeState.UNDECLARED,
    )


def _exposed(node: NodeView) -> str:
    """An engine gives any idle GPU of a node, so a cordoned one is held before anything else may start there."""
    exposed = [gpu.uuid for gpu in node.gpus if (cordon := node.cordons.get(gpu.uuid)) and cordon.exposed]
    return f"a cordoned GPU of it is not held yet: {', '.join(exposed)}" if exposed else ""


def _islands(gpus: Sequence[GpuRoom]) -> tuple[tuple[int, int], ...]:
    whole, free = Counter(gpu.island for gpu in gpus), Counter[str]()
    free.update(gpu.island for gpu in gpus if not gpu.reason and gpu.lease is None)
    return tuple((free[island], count) for island, count in whole.items())


def _reason(gpu: SeenGpu, cordons: Mapping[str, GpuCordon], *, tells: bool) -> str:
    if gpu.state == GpuState.LOST:
        return "does not answer its driver"
    if gpu.mig is not None:
        return f"is cut by MIG into {', '.join(gpu.mig) or 'nothing yet'}"
    cordon = cordons.get(gpu.uuid)
    told = f" by {cordon.owner}: {cordon.reason}" if cordon and tells else ""
    return f"is cordoned{told}" if cordon else ""


def _island(gpu: SeenGpu) -> str:
    """Return one word for GPUs that reach each other fast; without NVLink a node is one island."""
    return "" if gpu.island is None else str(gpu.island)
