from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.allocation.rules import choose, could_ever_fit, unfit
from controlplane.domains.allocation.types import Ask, FreeGpus, Placement, Refusal

nodes = st.lists(
    st.builds(
        FreeGpus,
        node=st.sampled_from([f"gpu{i}" for i in range(20)]),
        type=st.sampled_from(["h100", "a10"]),
        memory_bytes=st.integers(1, 100),
        free=st.integers(0, 8),
        reason=st.sampled_from(["", "", "silent: no report for 20 s"]),
        zone=st.sampled_from(["north", "south"]),
    ),
    unique_by=lambda node: node.node,
    max_size=12,
)
asks = st.builds(
    Ask,
    count=st.integers(1, 8),
    type=st.sampled_from(["", "h100", "a10"]),
    memory_bytes=st.integers(1, 100),
    zone=st.sampled_from(["", "north", "south"]),
)


@given(asks, nodes)
def test_every_chosen_node_has_what_was_asked(ask: Ask, candidates: list[FreeGpus]) -> None:
    verdict = choose(ask, candidates)
    by_name = {c.node: c for c in candidates}
    for name in verdict.nodes if isinstance(verdict, Placement) else ():
        node = by_name[name]
        assert not node.reason
        assert node.free >= ask.count
        assert node.memory_bytes >= ask.memory_bytes
        assert ask.type in ("", node.type)
        assert ask.zone in ("", node.zone)


@given(asks, nodes)
def test_a_refusal_gives_a_reason_for_every_node(ask: Ask, candidates: list[FreeGpus]) -> None:
    verdict = choose(ask, candidates)
    if isinstance(verdict, Refusal) and candidates:
        assert [reason.split(":")[0] for reason in verdict.reasons] == [c.node for c in candidates]


@given(asks, nodes)
def test_what_fits_now_could_always_fit(ask: Ask, candidates: list[FreeGpus]) -> None:
    if isinstance(choose(ask, candidates), Placement):
        totals = {c.node: max(c.free, 8) for c in candidates}
        assert could_ever_fit(ask, candidates, totals) is None


def test_the_fullest_node_that_fits_comes_first_so_that_large_asks_keep_room() -> None:
    candidates = [FreeGpus("roomy", "h100", 80, 8), FreeGpus("tight", "h100", 80, 2)]
    assert choose(Ask(2, "h100", 40), candidates) == Placement(("tight", "roomy"))


@given(asks, nodes)
def test_a_node_that_fits_is_never_among_those_to_leave_alone(ask: Ask, candidates: list[FreeGpus]) -> None:
    verdict = choose(ask, candidates)
    fitting = set(verdict.nodes) if isinstance(verdict, Placement) else set()
    assert not fitting & set(unfit(ask, candidates))
