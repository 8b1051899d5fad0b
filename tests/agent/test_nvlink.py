from hypothesis import given
from hypothesis import strategies as st

from controlplane.agent.nvlink import Links, find_islands


def links(own: str, *far: str) -> Links:
    return Links(own, frozenset(far), len(far))


def test_gpus_that_lead_to_the_same_switch_are_one_island():
    found = find_islands({0: links("g0", "s0", "s1"), 1: links("g1", "s0", "s1"), 2: links("g2", "s9")})

    assert found == {0: 0, 1: 0}


def test_bridged_pairs_are_islands_of_their_own():
    pairs = {0: links("g0", "g1"), 1: links("g1", "g0"), 2: links("g2", "g3"), 3: links("g3", "g2")}

    assert find_islands(pairs) == {0: 0, 1: 0, 2: 2, 3: 2}


def test_gpus_that_only_share_a_lost_neighbour_reach_each_other_no_more():
    # GPU 1 is there and has no link up; 0 and 2 still name it
    assert find_islands({0: links("g0", "g1"), 1: links("g1"), 2: links("g2", "g1")}) == {}


@given(st.dictionaries(st.integers(0, 7), st.frozensets(st.sampled_from([f"g{n}" for n in range(8)] + ["s0", "s1"]))))
def test_an_island_is_named_by_its_lowest_member_and_has_more_than_one(far: dict[int, frozenset[str]]):
    found = find_islands({index: Links(f"g{index}", ends, len(ends)) for index, ends in far.items()})

    for name in set(found.values()):
        members = [index for index, island in found.items() if island == name]
        assert min(members) == name
        assert len(members) > 1
