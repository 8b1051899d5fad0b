"""The beginning of a prompt as a chain of marks: two prompts share as many marks as they share whole blocks."""

from zlib import crc32

import msgspec

BLOCK_BYTES = 1024  # some 250 tokens; smaller ones cost more time than they find
_MOST_BLOCKS = 256


class Prefix(msgspec.Struct, frozen=True, gc=False):
    """`size` is the whole prompt's, in bytes; `home` names its first block, the same at every gateway."""

    marks: tuple[int, ...]
    size: int
    home: int


def read_prefix(prompt: list[bytes], seed: bytes) -> Prefix:
    """Return the marks of a prompt. `seed` is what its cache is divided by: another seed has no mark in common."""
    text = prompt[0] if len(prompt) == 1 else b"".join(prompt)
    start = crc32(seed)
    chain = start
    marks = []
    for at in range(0, min(len(text) // BLOCK_BYTES, _MOST_BLOCKS) * BLOCK_BYTES, BLOCK_BYTES):
        chain = hash((chain, text[at : at + BLOCK_BYTES]))
        marks.append(chain)
    return Prefix(tuple(marks), len(text), crc32(text[:BLOCK_BYTES], start))
