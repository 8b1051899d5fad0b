from dataclasses import dataclass


@dataclass(frozen=True)
class Ask:
    """`count` whole GPUs on one node. `type` or `zone` "" means any one; `memory_bytes` is needed on each GPU."""

    count: int
    type: str
    memory_bytes: int
    zone: str = ""


@dataclass(frozen=True)
class FreeGpus:
    """What one node has for an ask: `free` excludes leased GPUs; `reason` is set when the node takes no work at all."""

    node: str
    type: str
    memory_bytes: int
    free: int
    reason: str = ""
    zone: str = ""


@dataclass(frozen=True)
class Placement:
    """Nodes on which the ask fits now, best first. The engine picks among them."""

    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """Why each node says no, and the nearest thing that would fit."""

    reasons: tuple[str, ...]
    remedy: str
