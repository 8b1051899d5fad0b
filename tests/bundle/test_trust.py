"""Who may sign, how many must, until when, and how one root hands over to the next."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from controlplane.bundle.archive import pack_bundle
from controlplane.bundle.contents import SIGNATURES
from controlplane.bundle.roots import is_good_signature, trust_key
from controlplane.bundle.trust import (
    Signature,
    newest_root,
    read_root,
    read_signatures,
    root_bytes,
    signatures_bytes,
)
from controlplane.bundle.verify import inspect_bundle, overrides_of, verify_bundle
from controlplane.kit.errors import BadInput, Refused
from tests.support.bundles import MADE_AT, SmallBundle, signed_root

ALICE, BOB, CAROL, EVE = (Ed25519PrivateKey.generate() for _ in range(4))
REASON = "the vendor confirmed it by telephone"


def of_three(tmp_path, *signers, **facts) -> SmallBundle:
    """A bundle under a root of two of three, signed by these."""
    root = signed_root(ALICE, BOB, CAROL, threshold=2)
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=root, **facts)
    bundle.sign(*signers, roots=[root], afresh=True)
    return bundle


def test_enough_distinct_signatures_are_accepted_and_named(tmp_path):
    bundle = of_three(tmp_path, ALICE, CAROL)

    verified = inspect_bundle(bundle.folder, bundle.trust())

    assert [name.split(" (")[0] for name in verified.signers] == sorted(["signer 1", "signer 3"], key=by_id)


def test_one_signature_short_says_how_many_of_how_many_and_whose_are_good(tmp_path):
    bundle = of_three(tmp_path, BOB)

    with pytest.raises(Refused, match=r"1 of the 2 signatures that trust root 1 asks for \(good: signer 2") as refusal:
        inspect_bundle(bundle.folder, bundle.trust())

    assert "redoubt bundle sign" in refusal.value.remedy


def test_the_same_key_twice_counts_once(tmp_path):
    bundle = of_three(tmp_path, BOB)
    (mine,) = read_signatures((bundle.folder / SIGNATURES).read_bytes(), "")
    (bundle.folder / SIGNATURES).write_bytes(signatures_bytes([mine, mine]))

    with pytest.raises(Refused, match=r"1 of the 2 .*signed twice, which counts once"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_a_wrong_signature_among_enough_good_ones_is_refused(tmp_path):
    bundle = of_three(tmp_path, ALICE, BOB, CAROL)
    signatures = list(read_signatures((bundle.folder / SIGNATURES).read_bytes(), ""))
    signatures[0] = Signature(signatures[0].key_id, signatures[1].signature)
    (bundle.folder / SIGNATURES).write_bytes(signatures_bytes(signatures))

    with pytest.raises(Refused, match="wrong signature of signer"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_a_key_that_no_root_lists_does_not_count(tmp_path):
    bundle = of_three(tmp_path, ALICE)
    signatures = read_signatures((bundle.folder / SIGNATURES).read_bytes(), "")
    stranger = Signature(trust_key("eve", EVE.public_key()).id, signatures[0].signature)
    (bundle.folder / SIGNATURES).write_bytes(signatures_bytes([*signatures, stranger]))

    with pytest.raises(Refused, match=r"1 of the 2 .*unknown key"):
        inspect_bundle(bundle.folder, bundle.trust())


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_an_unsigned_bundle_is_refused(bundle, form):
    bundle.write(SIGNATURES, signatures_bytes([]))
    pack_bundle(bundle.folder, bundle.archive)

    with pytest.raises(Refused, match="0 of the 1 signatures"):
        verify_bundle(getattr(bundle, form), bundle.trust())


def test_a_folder_without_signatures_is_not_signed(bundle):
    (bundle.folder / SIGNATURES).unlink()

    with pytest.raises(Refused, match="not signed"):
        verify_bundle(bundle.folder, bundle.trust())


def test_a_root_hands_over_to_the_next_when_enough_signers_of_both_sign(tmp_path):
    first = signed_root(ALICE)
    second = signed_root(BOB, signers=[ALICE, BOB], before=first, version=2)
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=first)
    bundle.sign(BOB, roots=[first, second])

    verified = inspect_bundle(bundle.folder, bundle.trust())

    assert verified.root.root.version == 2
    assert verified.signers == (f"signer 1 ({trust_key('', BOB.public_key()).id})",)


def test_a_root_that_the_one_before_did_not_sign_is_refused(tmp_path):
    first = signed_root(ALICE)
    second = signed_root(EVE, signers=[EVE], before=first, version=2)
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=first)
    bundle.sign(EVE, roots=[first, second])

    with pytest.raises(Refused, match="trust root 2 has 0 of the 1 signatures that root 1 asks for"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_a_signature_under_a_root_of_before_no_longer_counts(tmp_path):
    first = signed_root(ALICE)
    second = signed_root(BOB, signers=[ALICE, BOB], before=first, version=2)
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=first)
    bundle.write("trust/root.2.json", root_bytes(second))

    with pytest.raises(Refused, match="0 of the 1 signatures that trust root 2 asks for"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_a_root_that_was_accepted_once_is_not_forgotten(tmp_path):
    first = signed_root(ALICE)
    second = signed_root(BOB, signers=[ALICE, BOB], before=first, version=2)
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=first)
    bundle.sign(BOB, roots=[first, second])
    verify_bundle(bundle.folder, bundle.trust())
    bundle.sign(ALICE, roots=[first], afresh=True)

    with pytest.raises(Refused, match="0 of the 1 signatures that trust root 2 asks for"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_a_gap_in_the_chain_is_named(tmp_path):
    first = signed_root(ALICE)
    second = signed_root(ALICE, before=first, version=2)
    third = signed_root(ALICE, before=second, version=3)

    with pytest.raises(Refused, match="trust root 2 is missing"):
        newest_root(first, [first, third], is_good_signature)


def test_a_root_past_its_day_is_refused_whatever_reason_is_given(tmp_path):
    root = signed_root(ALICE, expires_at=MADE_AT - timedelta(days=1))
    bundle = SmallBundle(tmp_path / "made", key=ALICE, root=root)

    with pytest.raises(Refused, match="trust root 1 expired"):
        inspect_bundle(bundle.folder, bundle.trust(accept=REASON))


def test_an_expired_bundle_is_refused_and_a_reason_goes_on_record(tmp_path):
    bundle = SmallBundle(tmp_path / "made", expires_at=MADE_AT - timedelta(days=1))
    with pytest.raises(Refused, match="it expired on") as refusal:
        verify_bundle(bundle.archive, bundle.trust())

    verify_bundle(bundle.archive, bundle.trust(accept=REASON))

    assert "--accept REASON" in refusal.value.remedy
    assert REASON in overrides_of(bundle.digest, bundle.trust())[0]


def test_a_bundle_below_the_floor_of_one_that_was_accepted_is_refused(tmp_path):
    newer = SmallBundle(tmp_path / "newer", serial=7, floor=6)
    older = SmallBundle(tmp_path / "older", key=newer.key, root=newer.root, serial=5)
    verify_bundle(newer.archive, newer.trust())

    with pytest.raises(Refused, match="its serial 5 is below the floor 6"):
        verify_bundle(older.archive, newer.trust())


def test_a_reason_of_one_word_is_none(tmp_path):
    bundle = SmallBundle(tmp_path / "made", expires_at=MADE_AT - timedelta(days=1))

    with pytest.raises(BadInput, match="at least 12 letters"):
        verify_bundle(bundle.archive, bundle.trust(accept="because"))


def test_a_reason_lifts_no_signature(tmp_path):
    bundle = of_three(tmp_path, BOB)

    with pytest.raises(Refused, match="1 of the 2 signatures"):
        verify_bundle(bundle.folder, bundle.trust(accept=REASON))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda text: text.replace(b'"threshold":2', b'"threshold":9'), "threshold is 9"),
        (lambda text: text.replace(b'"threshold":2', b'"threshold":true'), "no number"),
        (lambda text: text.replace(b'"format":1', b'"format":3'), "format"),
        (lambda text: text + b" ", "canonical"),
        (lambda text: text.replace(b'{"root"', b'{"x":1,"root"'), "canonical"),
        (lambda _: b"[]", ""),
        (lambda _: b"\xff", ""),
    ],
    ids=["threshold", "no number", "format", "a space more", "a field more", "a list", "no text"],
)
def test_a_root_of_another_shape_is_refused(change, word):
    raw = change(root_bytes(signed_root(ALICE, BOB, threshold=2)))

    with pytest.raises(Refused, match=f"root.json is altered or not whole.*{word}"):
        read_root(raw, "root.json")


@given(st.data())
def test_no_flipped_bit_in_a_root_goes_unseen(data):
    first = signed_root(ALICE, BOB, CAROL, threshold=1)
    second = signed_root(ALICE, BOB, CAROL, threshold=1, before=first, version=2)
    raw = bytearray(root_bytes(second))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(Refused):
        newest_root(first, [first, read_root(bytes(raw), "root.2.json")], is_good_signature)


def by_id(name: str) -> str:
    return trust_key(name, {"signer 1": ALICE, "signer 3": CAROL}[name].public_key()).id
