"""A search in windows finds what stands anywhere, also where two windows meet."""

import pytest

from controlplane.kit.search import holds

PART = b'"type"'


@pytest.mark.parametrize("size", [0, 6, 16_383, 16_384, 16_385, 40_000])
def test_what_is_not_there_is_not_found(size):
    assert not holds(b"x" * size, PART)


@pytest.mark.parametrize("at", [0, 5, 16_378, 16_379, 16_380, 16_383, 16_384, 32_757, 32_758, 32_763, 39_994])
def test_a_part_is_found_wherever_windows_meet(at):
    text = bytearray(b'"typ' * 10_000)
    text[at : at + len(PART)] = PART

    assert holds(bytes(text), PART)
