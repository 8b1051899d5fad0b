"""No bit of a bundle can change unseen: in its files, its framing, its trust, or what fills the space between."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.bundle.verify import verify_bundle
from controlplane.kit.errors import BadInput, Refused
from tests.support.bundles import SmallBundle


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    return SmallBundle(tmp_path_factory.mktemp("flips"))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_the_tar_is_refused(standing, data):
    raw = bytearray(standing.archive.read_bytes())
    # The head is small beside its spare room, so positions are drawn from both.
    where = data.draw(st.one_of(st.integers(0, len(raw) - 1), st.integers(0, 6000)))
    raw[where] ^= 1 << data.draw(st.integers(0, 7))
    bad = standing.home / "bad.tar"
    bad.write_bytes(raw)

    with pytest.raises((Refused, BadInput)):
        verify_bundle(bad, standing.trust())


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_flipped_bit_in_any_file_of_the_folder_is_refused(standing, data):
    files = sorted(path for path in standing.folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    good = path.read_bytes()
    bad = bytearray(good)
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bad)
    try:
        with pytest.raises((Refused, BadInput)):
            verify_bundle(standing.folder, standing.trust())
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("extra", [b"x", bytes(512), bytes(10240)], ids=["a byte", "a block", "a record"])
def test_bytes_behind_the_tar_are_refused(bundle, extra):
    with bundle.archive.open("ab") as out:
        out.write(extra)

    with pytest.raises(Refused, match="stand behind the end"):
        verify_bundle(bundle.archive, bundle.trust())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_tar_that_was_cut_short_is_refused(bundle, share):
    raw = bundle.archive.read_bytes()
    bundle.archive.write_bytes(raw[: int(len(raw) * share)])

    with pytest.raises((Refused, BadInput)):
        verify_bundle(bundle.archive, bundle.trust())
