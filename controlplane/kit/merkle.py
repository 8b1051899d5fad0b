"""The Merkle tree of RFC 6962: hashes, and which parts of a tree prove what.

A proof is a list of ranges of leaves; who keeps the hashes looks up each range's perfect subtrees (`cover`) and folds
them. So the arithmetic is here once, and no storage is.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

EMPTY_ROOT = hashlib.sha256(b"").digest()
TILE_HEIGHT = 8  # C2SP tlog-tiles: 256 hashes a tile


class Span(NamedTuple):
    """The leaves from `start` up to, not with, `end`."""

    start: int
    end: int


class Subtree(NamedTuple):
    """The `place`-th perfect subtree of 2**height leaves, from 0."""

    height: int
    place: int


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def cover(span: Span) -> Iterator[Subtree]:
    """Yield the perfect subtrees that make up a span, left to right."""
    start, left = span.start, span.end - span.start
    while left:
        height = left.bit_length() - 1
        yield Subtree(height, start >> height)
        start, left = start + (1 << height), left - (1 << height)


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a span from the hashes of its cover (RFC 6962, 2.1); of nothing, the empty root."""
    if not hashes:
        return EMPTY_ROOT
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes[:-1]), hashes[-1])


def perfect(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def inclusion_spans(index: int, size: int) -> list[Span]:
    """Return what proves leaf `index` in a tree of `size`, from the leaf's sibling up (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    return spans[::-1]


def consistency_spans(first: int, second: int) -> list[Span]:
    """Return what proves that the tree of `first` leaves is the beginning of that of `second` (RFC 6962, 2.1.2)."""
    if not 0 < first <= second:
        raise ValueError(f"no proof from {first} to {second}")
    spans: list[Span] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            spans.append(Span(middle, end))
            end = middle
        else:
            spans.append(Span(start, middle))
            start = middle
    if start:  # a left edge that the verifier cannot know from the first root
        spans.append(Span(start, end))
    return spans[::-1]


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Say whether `proof` leads from a leaf hash to `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and found == root


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Say whether `proof` shows that the first tree is the beginning of the second (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    hashes = list(proof) if first & (first - 1) else [first_root, *proof]
    if not hashes:
        return False
    position, last = first - 1, second - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def tile_path(level: int, number: int, width: int) -> str:
    """Return a tile's path (C2SP tlog-tiles); `width` 256 is a full one."""
    return f"tile/{level}/{tile_number(number, width)}"


def tile_number(number: int, width: int) -> str:
    """Return `x001/x234/067`, with `.p/<width>` for a partial tile."""
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return "/".join(groups) + (f".p/{width}" if width < 1 << TILE_HEIGHT else "")


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1
