"""Compares what the site declares with what agents see, and each node with its peers; plans holds of cordoned GPUs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

from controlplane.domains.fleet.types import (
    DeclaredGpus,
    DeclaredNode,
    GpuCordon,
    GpuState,
    HeldGpu,
    HoldPlan,
    NodeState,
    NodeView,
    SeenGpu,
)

SILENT_AFTER = timedelta(seconds=15)  # three missed reports of 5 s


# Words by which NVIDIA names its data centre boards, as the driver writes them (NVIDIA data centre driver: supported
# products; MIG user guide: supported GPUs). Each is one word of the product name, because Slurm takes a type only when
# the name that NVML gives contains it (gres.conf(5), AutoDetect).
TYPE_WORDS = frozenset({
    "a2", "a10", "a10g", "a16", "a30", "a40", "a100", "a800", "a4000", "a4500", "a5000", "a5500", "a6000", "b100",
    "b200", "b300", "gb200", "gb300", "gh200", "h20", "h100", "h200", "h800", "l2", "l4", "l20", "l40", "l40s", "p4",
    "p40", "p100", "t4", "v100",
})  # fmt: skip
NO_TYPES = frozenset({"nvidia", "tesla", "quadro", "geforce", "rtx", "titan", "graphics", "device", "pro"})


@cache  # a site has few kinds of cards and asks for each GPU of it at every decision
def gpu_type(card_name: str) -> str:
    """Return the site's word for a card: "h100" for "NVIDIA H100 80GB HBM3", "a6000" for "NVIDIA RTX A6000".

    A card that is in no table has its first telling word; "" only when there is none.
    """
    words = card_name.lower().replace("-", " ").replace("_", " ").split()
    known = [word for word in words if word in TYPE_WORDS]
    telling = [word for word in words if word not in NO_TYPES and word[0].isalpha()]
    return next(iter([*known, *telling, *words]), "")


def is_of_type(card_name: str, wanted: str) -> bool:
    """Say whether "NVIDIA H100 80GB HBM3" is an "h100"; "" asks for any."""
    return wanted.lower() in ("", gpu_type(card_name))


@dataclass(frozen=True)
class Peers:
    """How often each driver and each VBIOS occurs among all present cards of one name."""

    drivers: Mapping[str, Counter[str]] = field(default_factory=dict)
    vbios: Mapping[str, Counter[str]] = field(default_factory=dict)


def count_peers(nodes: Iterable[tuple[str, Iterable[SeenGpu]]]) -> Peers:
    """Count over the whole fleet; each node is (its driver, its GPUs)."""
    drivers: dict[str, Counter[str]] = {}
    vbios: dict[str, Counter[str]] = {}
    for driver, gpus in nodes:
        present = [gpu for gpu in gpus if gpu.state == GpuState.PRESENT]
        for card in {gpu.name for gpu in present if driver}:
            drivers.setdefault(card, Counter())[driver] += 1
        for gpu in present:
            if gpu.vbios:
                vbios.setdefault(gpu.name, Counter())[gpu.vbios] += 1
    return Peers(drivers, vbios)


def view_node(
    name: str,
    declared: DeclaredNode | None,
    last_report_at: datetime | None,
    gpus: tuple[SeenGpu, ...],
    now: datetime,
    *,
    driver: str = "",
    peers: Peers | None = None,
    cordons: Mapping[str, GpuCordon] | None = None,
) -> NodeView:
    """Say how a node is, with a reason for every state but ready, and every difference."""
    state, reasons = _judge(declared, last_report_at, gpus, now)
    zone, address = (declared.zone, declared.address) if declared else ("", "")
    differences = tuple(_differences(declared, gpus, driver, peers or Peers())) if last_report_at else ()
    return NodeView(name, zone, address, state, reasons, last_report_at, gpus, differences, driver, cordons or {})


def _judge(
    declared: DeclaredNode | None, last_report_at: datetime | None, gpus: tuple[SeenGpu, ...], now: datetime
) -> tuple[NodeState, tuple[str, ...]]:
    if declared is None:
        return NodeState.UNDECLARED, ("reports with a site certificate, and the site spec does not name it",)
    if last_report_at is None:
        return NodeState.NEVER_SEEN, ("declared, and its agent has never reported",)
    if now - last_report_at > SILENT_AFTER:
        return NodeState.SILENT, (f"no report for {int((now - last_report_at).total_seconds())} s",)
    faults = (*_too_few(declared, gpus), *_gone(declared, gpus))
    return (NodeState.DEGRADED, faults) if faults else (NodeState.READY, ())


def _differences(declared: DeclaredNode | None, gpus: tuple[SeenGpu, ...], driver: str, peers: Peers) -> Iterator[str]:
    if declared is not None:
        yield from _too_few(declared, gpus)
        yield from _gone(declared, gpus)
        yield from _too_many(declared, gpus)
        yield from _other_layouts(declared, gpus)
    present = [gpu for gpu in gpus if gpu.state == GpuState.PRESENT]
    for card in sorted({gpu.name for gpu in present}):
        yield from _unlike_peers(f"driver {driver}", driver, peers.drivers.get(card, Counter()), f"nodes with {card}")
    for gpu in present:
        what = f"GPU {gpu.uuid} has VBIOS {gpu.vbios}"
        yield from _unlike_peers(what, gpu.vbios, peers.vbios.get(gpu.name, Counter()), gpu.name)


def _too_few(declared: DeclaredNode, gpus: tuple[SeenGpu, ...]) -> tuple[str, ...]:
    seen, wanted = _counts(gpus), _declared_counts(declared.gpus)
    return tuple(f"{n} x {word} declared, {seen[word]} present" for word, n in wanted.items() if seen[word] < n)


def _gone(declared: DeclaredNode, gpus: tuple[SeenGpu, ...]) -> tuple[str, ...]:
    """A card that was replaced stays missing for ever, and is no fault while the declared number is there."""
    short = bool(_too_few(declared, gpus))
    gone = (g for g in gpus if g.state == GpuState.LOST or (short and g.state == GpuState.MISSING))
    return tuple(f"GPU {g.uuid} is {g.state}" for g in gone)


def _too_many(declared: DeclaredNode, gpus: tuple[SeenGpu, ...]) -> Iterator[str]:
    wanted = _declared_counts(declared.gpus)
    for word, count in sorted(_counts(gpus).items()):
        if count > wanted[word]:
            yield f"{wanted[word] or 'no'}{' x' if wanted[word] else ''} {word} declared, {count} present"


def _other_layouts(declared: DeclaredNode, gpus: tuple[SeenGpu, ...]) -> Iterator[str]:
    """The GPUs of a type take its entries in order, as the node counts them."""
    if not any(entry.mig for entry in declared.gpus) and not any(gpu.mig for gpu in gpus):
        return
    for word in _declared_counts(declared.gpus):
        layouts = [entry.mig for entry in declared.gpus if entry.type == word for _ in range(entry.count)]
        present = [gpu for gpu in gpus if gpu.type == word and gpu.state == GpuState.PRESENT]
        for gpu, layout in zip(sorted(present, key=lambda g: g.index), layouts, strict=False):
            if Counter(layout) != Counter(gpu.mig or ()):
                yield f"GPU {gpu.uuid} is {describe_layout(gpu.mig or ())}, {describe_layout(layout)} declared"


def describe_layout(profiles: Iterable[str]) -> str:
    """Return "2 x 3g.40gb" for an instance list, "whole" for none."""
    return ", ".join(f"{n} x {profile}" for profile, n in sorted(Counter(profiles).items())) or "whole"


def _unlike_peers(what: str, value: str, votes: Counter[str], peers: str) -> Iterator[str]:
    """Tell on who differs from most; where no value has more than half, from anybody."""
    total = votes.total()
    if not value or votes[value] * 2 > total or total < 2:
        return
    (most, count), *_ = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0] == value, vote[0]))
    if most != value:
        yield f"{what}; {count} of {total} {peers} have {most}"


def _counts(gpus: Iterable[SeenGpu]) -> Counter[str]:
    return Counter(gpu.type for gpu in gpus if gpu.state == GpuState.PRESENT)


def _declared_counts(declared: Iterable[DeclaredGpus]) -> Counter[str]:
    counts = Counter[str]()
    for entry in declared:
        counts[entry.type] += entry.count
    return counts


def plan_holds(cordoned: Iterable[SeenGpu], busy: Iterable[tuple[str, int]], held: Iterable[HeldGpu]) -> HoldPlan:
    """Say which holds to start and to end, so that each cordoned GPU that is idle has one and no other GPU has.

    An engine gives any free GPU of a node, not one by its number: so one more is asked for until the wanted one comes,
    those that came before keep their GPUs meanwhile, and all but the wanted one end then. `busy` are (node, device) of
    other runs.
    """
    wanted: dict[str, dict[int, SeenGpu]] = {}
    used = set(busy)
    for gpu in cordoned:
        if (gpu.node, gpu.device) not in used:
            wanted.setdefault(gpu.node, {})[gpu.device] = gpu
    by_node: dict[str, list[HeldGpu]] = {}
    for hold in held:
        by_node.setdefault(hold.node, []).append(hold)
    plans = [_plan_node(node, wanted.get(node, {}), by_node.get(node, [])) for node in sorted({*wanted, *by_node})]
    return HoldPlan(
        tuple(start for plan in plans for start in plan.start),
        tuple(run for plan in plans for run in plan.stop),
        tuple(node for plan in plans for node in plan.give_up),
    )


def _plan_node(node: str, wanted: Mapping[int, SeenGpu], held: list[HeldGpu]) -> HoldPlan:
    keeping = {hold.device: hold for hold in sorted(held, key=lambda h: h.run, reverse=True) if hold.device in wanted}
    others = tuple(sorted(hold.run for hold in held if hold not in keeping.values()))
    unheld = [gpu for device, gpu in sorted(wanted.items()) if device not in keeping]
    if not unheld:
        return HoldPlan(stop=others)
    if any(hold.is_late for hold in held):
        return HoldPlan(stop=others, give_up=(node,))
    if any(hold.device is None for hold in held):
        return HoldPlan()  # the answer to what was asked last comes first
    return HoldPlan(start=((node, unheld[0].type),))
