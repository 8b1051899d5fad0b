"""Decides whether an ask fits and where it fits best: filters, then scores. Slurm places; this says yes, or why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from controlplane.domains.allocation.rules import quota
from controlplane.domains.allocation.rules.preemption import victims
from controlplane.domains.allocation.types import Ask, Claim, LeaseFact, NodeRoom, Placement, Refusal, Verdict
from controlplane.domains.shares import rules as shares
from controlplane.domains.shares.types import Window

GIB = 1024**3
SHORTEST_S = 600  # what would be ended sooner by maintenance does not start
MARGIN_S = 300  # between the end of work and a reservation: what waits so long in the engine still fits before it
Score: TypeAlias = tuple[bool, int, int, int, bool, bool, bool, int, str]
NAMED = 3  # nodes that a reason names before it only counts


@dataclass(frozen=True)
class Look:
    """One decision: the ask, for whom, when, and what shares and pools say of each type of GPU."""

    ask: Ask
    claim: Claim
    now: datetime
    verdicts: Mapping[str, Verdict]

    @classmethod
    def at(cls, ask: Ask, claim: Claim, rooms: Sequence[NodeRoom], now: datetime) -> "Look":
        types = {room.type for room in rooms}
        return cls(ask, claim, now, {name: quota.judge(claim, name, ask.count) for name in types})

    def qos_on(self, room: NodeRoom) -> str:
        return shares.qos_of(self.claim.terms.pool, over_quota=self.verdicts[room.type].over_quota)


def choose(look: Look, rooms: Sequence[NodeRoom], *, preempts: bool = True) -> Placement | None:
    """Return where the ask fits, best first; where only preemption makes room, the node that costs least."""
    possible = [room for room in rooms if not firm_reason(look, room)]
    fitting = [room for room in possible if room.free >= look.ask.count]
    if fitting:
        return _placed(look, sorted(fitting, key=lambda room: _score(look, room)))
    costs = [(room, found) for room in possible if (found := victims(look.ask, room, look.qos_on(room)))]
    if not costs or not preempts:
        return None
    room, leases = min(costs, key=lambda cost: _cost(look, *cost))
    over = look.verdicts[room.type].over_quota
    return Placement((room.node,), room.type, over, leases, time_limit_s(look, room))


def firm_reason(look: Look, room: NodeRoom) -> str:
    """Say why a node would not take the ask even if nobody used its GPUs; "" when it would."""
    return room.reason or misfit(look.ask, room) or kept_from(look, room) or _denied(look, room) or _unsound(look, room)


def misfit(ask: Ask, room: NodeRoom) -> str:
    """Say what of the ask these GPUs can never be; "" when they are it."""
    if ask.zone and room.zone != ask.zone:
        return f"is in zone {room.zone or 'none'}, {ask.zone} asked"
    if ask.type and room.type != ask.type:
        return f"has {room.type}, {ask.type} asked"
    if room.memory_bytes < ask.memory_bytes:
        return f"{room.memory_bytes / GIB:.1f} GiB a GPU, {ask.memory_bytes / GIB:.1f} GiB needed"
    if len(room.gpus) < ask.count:
        return f"has {len(room.gpus)} x {room.type}, {ask.count} asked on one node"
    return ""


def room_reason(look: Look, room: NodeRoom) -> str:
    """Say why a node that would take the ask does not now."""
    return f"{room.free} of {room.sound} free, {look.ask.count} asked"


def kept_from(look: Look, room: NodeRoom) -> str:
    """Say which reservation keeps a node from a claim; "" when none does."""
    for window in room.windows:
        if _is_for(window, look):
            continue
        if window.starts_at <= look.now:
            until = "" if window.ends_at is None else f" until {window.ends_at:%d %b %H:%M}"
            return f"is kept by {window.kind} reservation {window.name}{until}"
        if seconds_until(window, look.now) < SHORTEST_S:
            return f"{window.kind} reservation {window.name} begins at {window.starts_at:%d %b %H:%M}"
    return ""


def type_of_waiting(look: Look, rooms: Sequence[NodeRoom]) -> str:
    """Return the one type of GPU that work waits for: within the guarantee if any is, and no larger than needed."""
    able = [room for room in rooms if not misfit(look.ask, room)]
    able = [room for room in able if not quota.never(look.claim, room.type, look.ask.count).code]
    if not able:
        return look.ask.type
    ask, claim = look.ask, look.claim
    return min(able, key=lambda r: (quota.is_beyond(claim, r.type, ask.count), r.memory_bytes, r.type)).type


def usable(look: Look, rooms: Sequence[NodeRoom], gpu_type: str) -> list[NodeRoom]:
    """Return where an engine may start the work now or later: the rest must never run it, however free it is."""
    return [room for room in rooms if room.type == gpu_type and not misfit(look.ask, room)]


def time_limit_s(look: Look, room: NodeRoom) -> int:
    """Return how long work may run on a node: until the first reservation that keeps it from there."""
    limits = [
        seconds_until(window, look.now)
        for window in room.windows
        if window.starts_at > look.now and not _is_for(window, look)
    ]
    return min([look.ask.time_s or look.claim.terms.max_time_s, look.claim.terms.max_time_s, *limits])


def _is_for(window: Window, look: Look) -> bool:
    return window.kind == "guaranteed" and bool(set(window.accounts) & set(look.claim.chain))


def seconds_until(window: Window, now: datetime) -> int:
    """Return how long work may run before a reservation that it may not be in."""
    return int((window.starts_at - now).total_seconds()) - MARGIN_S


def group(reasons: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Say each (node, why) once, with the nodes that it holds for: a thousand of them are one line."""
    nodes: dict[str, list[str]] = {}
    for node, why in reasons:
        nodes.setdefault(why, []).append(node)
    return tuple(f"{_names(names)}: {why}" for why, names in nodes.items())


def could_ever_fit(ask: Ask, claim: Claim, rooms: Sequence[NodeRoom]) -> Refusal | None:
    """Return a Refusal when even a site without work, faults and reservations would not take the ask."""
    unlike = [(room.node, misfit(ask, room)) for room in rooms]
    alike = [room for room, (_, why) in zip(rooms, unlike, strict=True) if not why]
    if not alike:
        return Refusal(group(unlike) or ("no node of the site has a GPU",), nearest(ask, rooms))
    verdicts = [quota.never(claim, room_type, ask.count) for room_type in sorted({room.type for room in alike})]
    if all(verdict.code for verdict in verdicts):
        return Refusal(tuple(verdict.why for verdict in verdicts), verdicts[0].remedy, verdicts[0].code)
    return None


def nearest(ask: Ask, rooms: Sequence[NodeRoom]) -> str:
    """Name the ask that is most like this one and that the site has GPUs for."""
    here = [room for room in rooms if ask.zone in ("", room.zone)]
    if not here:
        zones = ", ".join(sorted({room.zone for room in rooms if room.zone}))
        return f"ask in one of the zones that have GPUs: {zones}" if zones else "add a node with GPUs"
    typed = [room for room in here if ask.type in ("", room.type)]
    if not typed:
        return f"ask for a type that is here: {', '.join(sorted({room.type for room in here}))}"
    roomy = [room for room in typed if room.memory_bytes >= ask.memory_bytes]
    if not roomy:
        best = max(typed, key=lambda room: room.memory_bytes)
        return f"the nearest is {best.type} with {best.memory_bytes / GIB:.1f} GiB: choose a smaller model or context"
    best = max(roomy, key=lambda room: len(room.gpus))
    return f"ask for at most {min(len(best.gpus), ask.count)} x {best.type} on one node, as {best.node} has"


def _placed(look: Look, rooms: Sequence[NodeRoom]) -> Placement:
    """Return the nodes with GPUs of the best one's type: the engine may pick any of them."""
    kind = rooms[0].type
    alike = [room.node for room in rooms if room.type == kind]
    over, limit = look.verdicts[kind].over_quota, time_limit_s(look, rooms[0])
    return Placement(tuple(dict.fromkeys(alike)), kind, over, time_limit_s=limit)


def _cost(look: Look, room: NodeRoom, leases: Sequence[LeaseFact]) -> tuple[bool, int, Score]:
    """Return what preempting on a node costs: the guarantee first, then whose GPUs are taken away."""
    return look.verdicts[room.type].over_quota, sum(lease.count for lease in leases), _score(look, room)


def _score(look: Look, room: NodeRoom) -> Score:
    """Return what is better when smaller.

    The guarantee, the time until a reservation, copies apart, no GPU that is larger than needed, one island. An island
    that is all free is broken last, so that asks for a whole one keep room. Then comes what has the model already, and
    at last the node with the fewest GPUs left over.
    """
    ask, over = look.ask, look.verdicts[room.type].over_quota
    fits = [(free, whole) for free, whole in room.islands if free >= ask.count]
    breaks = bool(fits) and all(free == whole and free > ask.count for free, whole in fits)
    late, far, left = -time_limit_s(look, room), room.node not in ask.near, room.free - ask.count
    return over, late, ask.apart.count(room.node), room.memory_bytes, not fits, breaks, far, left, room.node


def _denied(look: Look, room: NodeRoom) -> str:
    return look.verdicts[room.type].why


def _unsound(look: Look, room: NodeRoom) -> str:
    if room.sound >= look.ask.count:
        return ""
    why = sorted({gpu.reason for gpu in room.gpus if gpu.reason})
    return f"{room.sound} of {len(room.gpus)} GPUs are sound, {look.ask.count} asked ({'; '.join(why)})"


def _names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
