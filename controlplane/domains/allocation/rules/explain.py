"""Says of every node and GPU why an ask does not fit, and what would make it fit."""

from collections.abc import Sequence

from controlplane.domains.allocation.rules.placement import (
    Look,
    could_ever_fit,
    firm_reason,
    group,
    kept_from,
    misfit,
    room_reason,
)  # fmt: skip
from controlplane.domains.allocation.rules.preemption import may_take
from controlplane.domains.allocation.types import (
    Admission,
    Explanation,
    GpuRoom,
    GpuVerdict,
    LeaseFact,
    NodeRoom,
    Placement,
    Refusal,
)

WAYS = 4
WAIT = "wait until what is granted there ends, or add a node"


def explain(look: Look, rooms: Sequence[NodeRoom], placed: Placement | None, made: Admission) -> Explanation:
    """Return everything that a person may want to know of an ask."""
    refusal = refuse(look, rooms) if placed is None else None
    return Explanation(
        fits=placed is not None,
        nodes=placed.nodes if placed else (),
        qos=made.qos,
        over_quota=made.over_quota,
        preempts=placed.preempts if placed else (),
        time_limit_s=made.time_limit_s,
        code=refusal.code if refusal else "",
        reasons=refusal.reasons if refusal else (),
        would_fit=refusal.would_fit if refusal else (),
        remedy=refusal.remedy if refusal else "",
        gpus=judge_gpus(look, rooms, placed.nodes[0] if placed else ""),
    )


def refuse(look: Look, rooms: Sequence[NodeRoom]) -> Refusal:
    """Return why an ask does not fit now, with what would make it fit."""
    never = could_ever_fit(look.ask, look.claim, rooms)
    if never is not None:
        return never
    denied = {look.verdicts[r.type].code: look.verdicts[r.type] for r in rooms if not misfit(look.ask, r)}
    reasons = group([(room.node, firm_reason(look, room) or room_reason(look, room)) for room in rooms])
    ways = ways_to_fit(look, rooms)
    if "" not in denied:
        code, verdict = next(iter(denied.items()))
        return Refusal(reasons, verdict.remedy, code, ways)
    return Refusal(reasons, f"it fits when {ways[0]}" if ways else WAIT, "no_fit", ways)


def ways_to_fit(look: Look, rooms: Sequence[NodeRoom]) -> tuple[str, ...]:
    """Return the nearest ways to make room, the smallest change first."""
    able = [room for room in rooms if not misfit(look.ask, room)]
    denials = [f"limits allow it: {v.remedy}" for room in able if (v := look.verdicts[room.type]).code]
    open_ = [room for room in able if not room.reason and not look.verdicts[room.type].code]
    ways = [*_ends(look, open_), *_cordons(look, open_), *_windows(look, open_), *_less(look, open_), *denials]
    return tuple(dict.fromkeys(ways))[:WAYS]


def judge_gpus(look: Look, rooms: Sequence[NodeRoom], chosen: str = "") -> tuple[GpuVerdict, ...]:
    """Return one verdict for each GPU of the site."""
    found = []
    for room in rooms:
        firm = firm_reason(look, room)
        for gpu in room.gpus:
            verdict, reason = _judge(look, room, gpu, firm, room.node == chosen)
            found.append(GpuVerdict(room.node, gpu.uuid, room.type, verdict, reason))
    return tuple(found)


def _judge(look: Look, room: NodeRoom, gpu: GpuRoom, firm: str, is_best: bool) -> tuple[str, str]:  # noqa: FBT001 - a table's row
    if gpu.reason:
        return "rejected", gpu.reason
    if firm:
        return "rejected", firm
    if gpu.lease is not None:
        return (
            "preemptible" if may_take(look.qos_on(room), gpu.lease, look.ask.spared) else "rejected"
        ), f"leased by {gpu.lease.holder}"
    if room.free < look.ask.count:
        return "free", f"too few beside it: {room_reason(look, room)}"
    return "free", "the best node for this" if is_best else "fits as well"


def _ends(look: Look, rooms: Sequence[NodeRoom]) -> list[str]:
    """Return whose ends would make room on a node, the fewest first."""
    ways = []
    for room in rooms:
        if room.sound < look.ask.count or kept_from(look, room):
            continue
        missing, chosen = look.ask.count - room.free, dict[str, LeaseFact]()
        for gpu in sorted((g for g in room.gpus if g.lease and not g.reason), key=_first_to_end):
            if gpu.lease is not None and missing > 0:
                chosen[gpu.lease.id] = gpu.lease
                missing -= 1
        if missing <= 0 and chosen:
            when = [lease.expires_at for lease in chosen.values() if lease.expires_at is not None]
            by = f", by {max(when):%d %b %H:%M} at the latest" if len(when) == len(chosen) else ""
            names = "; ".join(lease.holder for lease in chosen.values())
            ways.append((len(chosen), f"{names}, on {room.node}, ends{by}"))
    return [way for _, way in sorted(ways)[:1]]


def _first_to_end(gpu: GpuRoom) -> tuple[bool, float, str]:
    ends_at = gpu.lease.expires_at if gpu.lease is not None else None
    return ends_at is None, ends_at.timestamp() if ends_at is not None else 0, gpu.uuid


def _cordons(look: Look, rooms: Sequence[NodeRoom]) -> list[str]:
    for room in rooms:
        faulty = [gpu for gpu in room.gpus if gpu.reason and gpu.lease is None]
        missing = look.ask.count - room.free
        if 0 < missing <= len(faulty):
            return [f"{gpu.uuid} on {room.node} is back ({gpu.reason})" for gpu in faulty[:missing]]
    return []


def _windows(look: Look, rooms: Sequence[NodeRoom]) -> list[str]:
    return [
        f"the reservation is over ({room.node} {why})"
        for room in rooms
        if (why := kept_from(look, room)) and room.free >= look.ask.count
    ][:1]


def _less(look: Look, rooms: Sequence[NodeRoom]) -> list[str]:
    best = max((r for r in rooms if r.free and not kept_from(look, r)), key=lambda room: room.free, default=None)
    return [] if best is None else [f"{best.free} x {best.type} are asked, which are free on {best.node} now"]
