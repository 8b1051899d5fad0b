"""Compares what the site declares with what agents see."""

from datetime import datetime, timedelta

from controlplane.domains.fleet.types import DeclaredGpus, DeclaredNode, GpuState, NodeState, NodeView, SeenGpu

SILENT_AFTER = timedelta(seconds=15)  # three missed reports of 5 s


def is_of_type(card_name: str, gpu_type: str) -> bool:
    """Say whether "NVIDIA H100 80GB HBM3" is an "h100"; "" asks for any."""
    return gpu_type.lower() in card_name.lower().replace("-", " ").split() or gpu_type == ""


def view_node(
    name: str, declared: DeclaredNode | None, last_report_at: datetime | None, gpus: tuple[SeenGpu, ...], now: datetime
) -> NodeView:
    """Say how a node is, with a reason for every state but ready."""
    state, reasons = _judge(declared, last_report_at, gpus, now)
    zone, address = (declared.zone, declared.address) if declared else ("", "")
    return NodeView(name, zone, address, state, reasons, last_report_at, gpus)


def _judge(
    declared: DeclaredNode | None, last_report_at: datetime | None, gpus: tuple[SeenGpu, ...], now: datetime
) -> tuple[NodeState, tuple[str, ...]]:
    if declared is None:
        return NodeState.UNDECLARED, ("reports with a site certificate, and the site spec does not name it",)
    if last_report_at is None:
        return NodeState.NEVER_SEEN, ("declared, and its agent has never reported",)
    if now - last_report_at > SILENT_AFTER:
        return NodeState.SILENT, (f"no report for {int((now - last_report_at).total_seconds())} s",)
    short = _missing(declared.gpus, gpus)
    # a card that was replaced stays missing for ever and is no fault while the declared number is there
    gone = (g for g in gpus if g.state == GpuState.LOST or (short and g.state == GpuState.MISSING))
    faults = (*short, *(f"GPU {g.uuid} is {g.state}" for g in gone))
    return (NodeState.DEGRADED, faults) if faults else (NodeState.READY, ())


def _missing(declared: tuple[DeclaredGpus, ...], gpus: tuple[SeenGpu, ...]) -> tuple[str, ...]:
    present = [g for g in gpus if g.state == GpuState.PRESENT]
    seen = {d.type: sum(is_of_type(g.name, d.type) for g in present) for d in declared}
    return tuple(f"{d.count} x {d.type} declared, {seen[d.type]} present" for d in declared if seen[d.type] < d.count)
