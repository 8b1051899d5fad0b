import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.mig import PROFILES, find_starts, why_not

TABLES = [table for tables in PROFILES.values() for table in tables]
layouts = st.sampled_from(TABLES).flatmap(lambda table: st.lists(st.sampled_from(sorted(table.items())), max_size=8))


@given(layouts)
def test_no_two_instances_lie_on_the_same_slice(layout):
    profiles = [profile for _, profile in layout]

    starts = find_starts(profiles)

    if starts is not None:
        slices = [s for p, start in zip(profiles, starts, strict=True) for s in range(start, start + p.slices)]
        assert len(slices) == len(set(slices))
        assert all(start in p.starts for p, start in zip(profiles, starts, strict=True))


@given(layouts, st.randoms())
def test_the_order_in_which_a_layout_is_written_does_not_count(layout, random):
    other = random.sample(layout, len(layout))

    assert (find_starts([p for _, p in layout]) is None) == (find_starts([p for _, p in other]) is None)


@pytest.mark.parametrize(
    ("gpu_type", "layout", "why"),
    [
        ("h100", ["1g.10gb"] * 7, ""),
        ("h100", ["2g.20gb", "2g.20gb", "3g.40gb"], ""),
        ("h100", ["3g.40gb", "4g.40gb"], ""),
        ("a100", ["1g.5gb"] * 7, ""),
        ("h200", ["7g.141gb"], ""),
        ("a30", ["2g.12gb", "2g.12gb"], ""),
        ("h100", ["1g.20gb"] * 5, "more than one h100 holds"),
        ("h100", ["3g.40gb", "3g.40gb", "1g.10gb"], "more than one h100 holds"),
        ("a100", ["1g.5gb", "1g.20gb"], "cannot have"),
        ("l40s", ["1g.10gb"], "no MIG profiles of l40s are known"),
    ],
)
def test_what_a_board_takes_is_what_nvidia_lists(gpu_type, layout, why):
    assert why in why_not(gpu_type, layout)
    assert bool(why) == bool(why_not(gpu_type, layout))
