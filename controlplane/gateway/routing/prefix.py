"""The beginning of a prompt as a chain of marks: two prompts share as many marks as they share whole blocks."""

from bisect import bisect_right
from typing import Final
from zlib import crc32

import msgspec

BLOCK_BYTES: Final = 2048  # some 500 tokens; smaller ones cost more time than they find
_FIRST_BYTES: Final = 1024  # a short system prompt is worth knowing
_MOST_BYTES: Final = 128 * BLOCK_BYTES
MARKED_BYTES: Final = (0, _FIRST_BYTES, *range(BLOCK_BYTES, _MOST_BYTES + 1, BLOCK_BYTES))  # by so many marks


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """`size` is the whole prompt's, in bytes; `home` names its first block, the same at every gateway."""

    marks: tuple[int, ...]
    size: int
    home: int


def read_prefix(prompt: list[bytes], seed: bytes) -> Prefix:
    """Return the marks of a prompt. `seed` is what its cache is divided by: another seed has no mark in common."""
    text = prompt[0] if len(prompt) == 1 else b"".join(prompt)
    start = crc32(seed)
    chain, at = start, 0
    marks = []
    for end in MARKED_BYTES[1 : marks_in(len(text)) + 1]:
        chain = hash((chain, text[at:end]))
        marks.append(chain)
        at = end
    return Prefix(tuple(marks), len(text), crc32(text[:_FIRST_BYTES], start))


def marks_in(size: float) -> int:
    """Return how many marks so many bytes have."""
    return bisect_right(MARKED_BYTES, size) - 1
