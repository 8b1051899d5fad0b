"""Decides whether an ask fits. Slurm places; this says yes, or why not."""

from dataclasses import replace

from controlplane.domains.allocation.types import Ask, FreeGpus, Placement, Refusal

GIB = 1024**3


def choose(ask: Ask, candidates: list[FreeGpus]) -> Placement | Refusal:
    """Return the nodes that fit, those with the fewest GPUs left over first so that large asks keep room."""
    verdicts = {c: _why_not(ask, c) for c in candidates}
    fitting = sorted((c for c, why in verdicts.items() if not why), key=lambda c: (c.free - ask.count, c.node))
    if fitting:
        return Placement(tuple(c.node for c in fitting))
    reasons = tuple(f"{c.node}: {why}" for c, why in verdicts.items()) or ("no node of the site has a GPU",)
    return Refusal(reasons, _nearest(ask, candidates))


def could_ever_fit(ask: Ask, candidates: list[FreeGpus], totals: dict[str, int]) -> Refusal | None:
    """Return a Refusal when even an empty site cannot take the ask; `totals` is every GPU of a node by its name."""
    empty = [replace(c, free=totals.get(c.node, c.free), reason="") for c in candidates]
    verdict = choose(ask, empty)
    return verdict if isinstance(verdict, Refusal) else None


def unfit(ask: Ask, candidates: list[FreeGpus]) -> tuple[str, ...]:
    """Return the nodes that could not take the ask even when empty; an engine must not choose them."""
    return tuple(c.node for c in candidates if _why_not(ask, replace(c, free=ask.count, reason="")))


def _why_not(ask: Ask, candidate: FreeGpus) -> str:
    if candidate.reason:
        return candidate.reason
    if ask.zone and candidate.zone != ask.zone:
        return f"is in zone {candidate.zone or 'none'}, {ask.zone} asked"
    if ask.type and candidate.type != ask.type:
        return f"has {candidate.type}, {ask.type} asked"
    if candidate.memory_bytes < ask.memory_bytes:
        return f"{candidate.memory_bytes / GIB:.1f} GiB a GPU, {ask.memory_bytes / GIB:.1f} GiB needed"
    if candidate.free < ask.count:
        return f"{candidate.free} free, {ask.count} asked"
    return ""


def _nearest(ask: Ask, candidates: list[FreeGpus]) -> str:
    able = [c for c in candidates if not c.reason and c.memory_bytes >= ask.memory_bytes and ask.zone in ("", c.zone)]
    best = max(able, key=lambda c: c.free, default=None)
    if best is None or best.free == 0:
        return "free a GPU, add a node, or choose a smaller model or context"
    return f"{best.free} x {best.type} would fit on {best.node} now"
