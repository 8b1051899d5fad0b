"""The tree against a naive one, and against vectors that others published."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kit.merkle import (
    EMPTY_ROOT,
    Span,
    Subtree,
    consistency_spans,
    cover,
    fold,
    inclusion_spans,
    is_consistent,
    is_included,
    leaf_hash,
    perfect,
    tile_path,
)

# the reference leaves and roots of certificate-transparency's merkletree tests
REFERENCE_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
REFERENCE_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

sizes = st.integers(1, 300)


def naive_root(entries: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


def naive_path(m: int, entries: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, word for word."""
    if len(entries) == 1:
        return []
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m < k:
        return [*naive_path(m, entries[:k]), naive_root(entries[k:])]
    return [*naive_path(m - k, entries[k:]), naive_root(entries[:k])]


def naive_consistency(m: int, entries: list[bytes], *, known: bool = True) -> list[bytes]:
    """RFC 6962, 2.1.2, word for word."""
    if m == len(entries):
        return [] if known else [naive_root(entries)]
    k = 1
    while k * 2 < len(entries):
        k *= 2
    if m <= k:
        return [*naive_consistency(m, entries[:k], known=known), naive_root(entries[k:])]
    return [*naive_consistency(m - k, entries[k:], known=False), naive_root(entries[:k])]


def entries_of(size: int) -> list[bytes]:
    return [str(i).encode() for i in range(size)]


def hash_of(span: Span, entries: list[bytes]) -> bytes:
    def subtree(part: Subtree) -> bytes:
        width = 1 << part.height
        return perfect([leaf_hash(e) for e in entries[part.place * width : (part.place + 1) * width]])

    return fold([subtree(part) for part in cover(span)])


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots_come_out(size: int):
    assert hash_of(Span(0, size), REFERENCE_LEAVES[:size]).hex() == REFERENCE_ROOTS[size - 1]


def test_the_root_of_nothing_is_the_hash_of_nothing():
    assert fold([]) == EMPTY_ROOT == naive_root([])


@given(sizes)
def test_a_root_is_that_of_the_naive_tree(size: int):
    entries = entries_of(size)
    assert hash_of(Span(0, size), entries) == naive_root(entries)


@given(sizes, st.data())
def test_an_inclusion_proof_is_that_of_the_rfc_and_holds(size: int, data: st.DataObject):
    index = data.draw(st.integers(0, size - 1))
    entries = entries_of(size)
    proof = [hash_of(span, entries) for span in inclusion_spans(index, size)]

    assert proof == naive_path(index, entries)
    assert is_included(leaf_hash(entries[index]), index, size, proof, naive_root(entries))


@given(sizes, st.data())
def test_an_inclusion_proof_holds_for_nothing_else(size: int, data: st.DataObject):
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size + 3))
    entries = entries_of(size)
    proof, root, leaf = naive_path(index, entries), naive_root(entries), leaf_hash(entries[index])

    assert other == index or not is_included(leaf, other, size, proof, root)
    assert not is_included(leaf_hash(b"forged"), index, size, proof, root)
    assert not is_included(leaf, index, size, [*proof, root], root)
    assert not proof or not is_included(leaf, index, size, proof[:-1], root)


@given(sizes, st.data())
def test_a_consistency_proof_is_that_of_the_rfc_and_holds(size: int, data: st.DataObject):
    first = data.draw(st.integers(1, size))
    entries = entries_of(size)
    proof = [hash_of(span, entries) for span in consistency_spans(first, size)]

    assert proof == naive_consistency(first, entries)
    assert is_consistent(first, naive_root(entries[:first]), size, naive_root(entries), proof)


@given(sizes, st.data())
def test_a_consistency_proof_holds_for_no_other_past(size: int, data: st.DataObject):
    first, changed = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))
    entries, rewritten = entries_of(size), entries_of(size)
    rewritten[changed] = b"rewritten"
    old, new, proof = naive_root(entries[:first]), naive_root(rewritten), naive_consistency(first, rewritten)

    assert is_consistent(first, old, size, new, proof) == (changed >= first)


def test_a_proof_of_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_spans(3, 3)
    with pytest.raises(ValueError, match="no proof"):
        consistency_spans(4, 3)
    assert not is_consistent(0, EMPTY_ROOT, 3, EMPTY_ROOT, [])


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (0, 0, 256, "tile/0/000"),
        (1, 999, 17, "tile/1/999.p/17"),
        (2, 1000, 1, "tile/2/x001/000.p/1"),
    ],
)
def test_a_tile_lies_where_c2sp_says(level: int, number: int, width: int, path: str):
    assert tile_path(level, number, width) == path
