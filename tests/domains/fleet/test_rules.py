from datetime import UTC, datetime, timedelta

import pytest

from controlplane.domains.fleet.rules import is_of_type, view_node
from controlplane.domains.fleet.types import DeclaredGpus, DeclaredNode, GpuState, NodeState, SeenGpu

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DECLARED = DeclaredNode("gpu1", "10.0.0.1", "north", (), (DeclaredGpus("h100", 1),))
CARD = SeenGpu("GPU-1", "gpu1", "NVIDIA H100 80GB HBM3", 80, GpuState.PRESENT)
LOST = SeenGpu("GPU-1", "gpu1", "NVIDIA H100 80GB HBM3", 80, GpuState.LOST)


@pytest.mark.parametrize(
    ("declared", "last", "gpus", "state"),
    [
        (DECLARED, NOW, (CARD,), NodeState.READY),
        (DECLARED, NOW, (LOST,), NodeState.DEGRADED),
        (DECLARED, NOW, (), NodeState.DEGRADED),
        (DECLARED, NOW - timedelta(seconds=16), (CARD,), NodeState.SILENT),
        (DECLARED, None, (), NodeState.NEVER_SEEN),
        (None, NOW, (CARD,), NodeState.UNDECLARED),
    ],
)
def test_a_node_is_what_its_declaration_and_its_reports_make_it(
    declared: DeclaredNode | None, last: datetime | None, gpus: tuple[SeenGpu, ...], state: NodeState
) -> None:
    view = view_node("gpu1", declared, last, gpus, NOW)
    assert view.state == state
    assert bool(view.reasons) == (state != NodeState.READY)


@pytest.mark.parametrize(
    ("card", "word"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100-PCIE-40GB", "h100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA L40S", "l40s"),
    ],
)
def test_a_cards_name_answers_to_its_type_and_to_no_other(card: str, word: str) -> None:
    assert is_of_type(card, word)
    assert not is_of_type(card, "a1")
