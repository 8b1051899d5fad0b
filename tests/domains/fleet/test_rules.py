from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.fleet.rules import count_peers, gpu_type, is_of_type, view_node
from controlplane.domains.fleet.types import DeclaredGpus, DeclaredNode, GpuState, NodeState, SeenGpu

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DECLARED = DeclaredNode("gpu1", "10.0.0.1", "north", (), (DeclaredGpus("h100", 1),))
CARD = SeenGpu("GPU-1", "gpu1", "NVIDIA H100 80GB HBM3", 80, GpuState.PRESENT, type="h100", vbios="1")
LOST = replace(CARD, state=GpuState.LOST)
A100 = replace(CARD, uuid="GPU-9", name="NVIDIA A100-SXM4-80GB", type="a100")


def cards(*states: GpuState, node: str = "gpu1", vbios: str = "1") -> tuple[SeenGpu, ...]:
    return tuple(
        replace(CARD, uuid=f"GPU-{node}-{i}", node=node, index=i, state=state, vbios=vbios)
        for i, state in enumerate(states)
    )


def declared(*gpus: DeclaredGpus) -> DeclaredNode:
    return replace(DECLARED, gpus=gpus)


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
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA RTX A6000", "a6000"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "blackwell"),
        ("NVIDIA X900 96GB", "x900"),
        ("NVIDIA", "nvidia"),
        ("", ""),
    ],
)
def test_a_cards_name_answers_to_its_type_and_to_no_other(card: str, word: str) -> None:
    assert gpu_type(card) == word
    assert is_of_type(card, word)
    assert not is_of_type(card, "a1")


@given(st.text(max_size=40))
def test_every_name_has_a_type_that_is_one_of_its_own_words(card: str) -> None:
    words = card.lower().replace("-", " ").replace("_", " ").split()
    assert gpu_type(card) in (words or [""])


def test_a_node_that_comes_back_with_fewer_gpus_says_which_are_missing() -> None:
    view = view_node("gpu1", declared(DeclaredGpus("h100", 2)), NOW, cards(GpuState.PRESENT, GpuState.MISSING), NOW)

    assert view.state == NodeState.DEGRADED
    assert view.reasons == ("2 x h100 declared, 1 present", "GPU GPU-gpu1-1 is missing")
    assert view.differences == view.reasons


def test_a_card_that_was_replaced_is_no_fault() -> None:
    view = view_node("gpu1", DECLARED, NOW, cards(GpuState.MISSING, GpuState.PRESENT), NOW)

    assert (view.state, view.differences) == (NodeState.READY, ())


@pytest.mark.parametrize(
    ("gpus", "difference"),
    [
        (cards(GpuState.PRESENT, GpuState.PRESENT), "1 x h100 declared, 2 present"),
        ((CARD, A100), "no a100 declared, 1 present"),
        ((replace(CARD, mig=("3g.40gb", "3g.40gb")),), "GPU GPU-1 is 2 x 3g.40gb, whole declared"),
    ],
)
def test_more_or_other_gpus_than_declared_are_shown_and_the_node_stays_ready(
    gpus: tuple[SeenGpu, ...], difference: str
) -> None:
    view = view_node("gpu1", DECLARED, NOW, gpus, NOW)

    assert (view.state, view.differences) == (NodeState.READY, (difference,))


def test_the_layouts_of_a_type_are_compared_in_the_order_of_the_declaration() -> None:
    spec = declared(DeclaredGpus("h100", 1, ("1g.10gb",) * 7), DeclaredGpus("h100", 1))
    first, second = cards(GpuState.PRESENT, GpuState.PRESENT)
    cut = replace(first, mig=("1g.10gb",) * 7)

    assert view_node("gpu1", spec, NOW, (second, cut), NOW).differences == ()
    assert view_node("gpu1", spec, NOW, (first, second), NOW).differences == (
        "GPU GPU-gpu1-0 is whole, 7 x 1g.10gb declared",
    )


def test_a_node_with_another_driver_or_vbios_than_most_of_its_peers_is_told_of() -> None:
    fleet = {
        "gpu1": ("580.1", cards(GpuState.PRESENT, node="gpu1")),
        "gpu2": ("580.1", cards(GpuState.PRESENT, node="gpu2")),
        "gpu3": ("575.9", cards(GpuState.PRESENT, node="gpu3", vbios="2")),
    }
    peers = count_peers(fleet.values())

    odd = view_node("gpu3", DECLARED, NOW, fleet["gpu3"][1], NOW, driver="575.9", peers=peers)
    usual = view_node("gpu1", DECLARED, NOW, fleet["gpu1"][1], NOW, driver="580.1", peers=peers)

    assert odd.differences == (
        "driver 575.9; 2 of 3 nodes with NVIDIA H100 80GB HBM3 have 580.1",
        "GPU GPU-gpu3-0 has VBIOS 2; 2 of 3 NVIDIA H100 80GB HBM3 have 1",
    )
    assert (odd.state, usual.differences) == (NodeState.READY, ())


def test_where_no_driver_has_a_majority_every_node_is_told_of() -> None:
    fleet = [("1", cards(GpuState.PRESENT, node="gpu1")), ("2", cards(GpuState.PRESENT, node="gpu2"))]
    peers = count_peers(fleet)

    views = [view_node("x", DECLARED, NOW, gpus, NOW, driver=driver, peers=peers) for driver, gpus in fleet]

    assert [len(view.differences) for view in views] == [1, 1]
