"""Which instances a GPU can be cut into: NVIDIA's profiles, and where on the board each may lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PATTERN = r"^[1-7]g\.[0-9]{1,3}gb$"


@dataclass(frozen=True)
class Profile:
    """`slices` of the board's memory, from one of `starts` on."""

    slices: int
    starts: tuple[int, ...]


def _boards(*sizes: int) -> dict[str, Profile]:
    """Boards of seven compute and eight memory slices: the sizes in GB of 1g, 1g with two slices, 2g, 3g, 4g and 7g."""
    one, double, two, three, four, seven = sizes
    return {
        f"1g.{one}gb": Profile(1, (0, 1, 2, 3, 4, 5, 6)),
        f"1g.{double}gb": Profile(2, (0, 2, 4, 6)),
        f"2g.{two}gb": Profile(2, (0, 2, 4)),
        f"3g.{three}gb": Profile(4, (0, 4)),
        f"4g.{four}gb": Profile(4, (0,)),
        f"7g.{seven}gb": Profile(8, (0,)),
    }


# NVIDIA MIG User Guide, "Supported MIG Profiles" and the placements that `nvidia-smi mig -lgipp` lists there; profiles
# with media extensions or graphics are left out. A type that comes with two sizes of memory has a table for each.
PROFILES: Mapping[str, tuple[Mapping[str, Profile], ...]] = {
    "a30": (
        {
            "1g.6gb": Profile(1, (0, 1, 2, 3)),
            "2g.12gb": Profile(2, (0, 2)),
            "4g.24gb": Profile(4, (0,)),
        },
    ),
    "a100": (_boards(5, 10, 10, 20, 20, 40), _boards(10, 20, 20, 40, 40, 80)),
    "h100": (_boards(10, 20, 20, 40, 40, 80), _boards(12, 24, 24, 47, 47, 94)),
    "h200": (_boards(18, 35, 35, 71, 71, 141),),
    "b200": (_boards(23, 45, 45, 90, 90, 180),),
}


def why_not(gpu_type: str, layout: Sequence[str]) -> str:
    """Say why a GPU of this type cannot be cut like this, "" when it can."""
    tables = PROFILES.get(gpu_type)
    if tables is None:
        return f"no MIG profiles of {gpu_type} are known; known are {', '.join(sorted(PROFILES))}"
    for table in tables:
        if set(layout) <= set(table):
            fits = find_starts([table[name] for name in layout]) is not None
            return "" if fits else f"{', '.join(layout)} are more than one {gpu_type} holds"
    offered = "; or ".join(", ".join(table) for table in tables)
    return f"one {gpu_type} cannot have {', '.join(sorted(set(layout)))}; it can have {offered}"


def find_starts(profiles: Sequence[Profile]) -> tuple[int, ...] | None:
    """Return a start for each so that none overlap, None when there is no such way."""
    order = sorted(range(len(profiles)), key=lambda n: (-profiles[n].slices, len(profiles[n].starts)))
    found = _place([profiles[n] for n in order], frozenset())
    if found is None:
        return None
    by_number = dict(zip(order, found, strict=True))
    return tuple(by_number[n] for n in range(len(profiles)))


def _place(left: list[Profile], used: frozenset[int]) -> tuple[int, ...] | None:
    """Try the large ones first, each at every place that is free."""
    if not left:
        return ()
    first, *rest = left
    for start in first.starts:
        span = frozenset(range(start, start + first.slices))
        if not span & used and (found := _place(rest, used | span)) is not None:
            return (start, *found)
    return None
