"""The GPUs of a node as roles are told of them: as boards, as they are cut, and as jobs ask for them."""

from collections import Counter
from typing import Any  # role inputs are free-form YAML

from controlplane.sitespec.spec import Node

Inputs = dict[str, Any]


def boards(node: Node) -> list[Inputs]:
    """Return how many boards of each type there are, however they are cut."""
    counts = Counter[str]()
    for gpus in node.gpus:
        counts[gpus.type] += gpus.count
    return [{"type": gpu_type, "count": count} for gpu_type, count in counts.items()]


def layouts(node: Node) -> list[Inputs]:
    """Return how the boards are cut, in the order in which those of a type take the entries."""
    return [{"type": gpus.type, "count": gpus.count, "mig": list(gpus.layout)} for gpus in node.gpus]


def offered(node: Node) -> list[Inputs]:
    """Return what jobs may ask for: whole GPUs by their type, instances by type and profile, such as h100_1g.10gb."""
    counts = Counter[str]()
    for gpus in node.gpus:
        for profile in gpus.layout or ("",):
            counts[f"{gpus.type}_{profile}" if profile else gpus.type] += gpus.count
    return [{"type": word, "count": count} for word, count in counts.items()]
