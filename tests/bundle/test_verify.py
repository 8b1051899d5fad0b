"""A bundle that is not the one that was signed is refused, with the name of what differs."""

import json

import pytest

from controlplane.bundle.archive import pack_bundle
from controlplane.bundle.manifest import CarriedFile
from controlplane.bundle.verify import inspect_bundle, verify_bundle
from controlplane.kit.canonical import canonical_json
from controlplane.kit.errors import BadInput, Refused
from tests.support.bundles import SmallBundle

DEB = "apt/pool/tool_1.deb"


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_whole_bundle_verifies_to_its_digest(bundle, form):
    verified = verify_bundle(getattr(bundle, form), bundle.trust())

    assert verified.digest == bundle.digest
    assert len(verified.manifest.files) == 4


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_a_flipped_byte_is_refused_by_the_name_of_its_file(bundle, form):
    flip(bundle.folder / DEB, 1000)
    if form == "archive":
        pack_bundle(bundle.folder, bundle.archive)

    with pytest.raises(Refused) as refusal:
        verify_bundle(getattr(bundle, form), bundle.trust())

    assert DEB in refusal.value.detail
    assert "altered" in refusal.value.detail
    assert "redoubt bundle verify" in refusal.value.remedy


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda folder: (folder / DEB).unlink(), "missing"),
        (lambda folder: (folder / "apt/rogue").write_text("x"), "not in its manifest"),
        (lambda folder: (folder / DEB).write_bytes(b"short"), "5 bytes instead of"),
    ],
    ids=["missing", "added", "shortened"],
)
def test_files_that_come_go_or_shrink_are_named(bundle, form, change, word):
    change(bundle.folder)
    pack_bundle(bundle.folder, bundle.archive)

    with pytest.raises(Refused) as refusal:
        verify_bundle(getattr(bundle, form), bundle.trust())

    assert word in refusal.value.detail


def test_a_symbolic_link_is_no_file(bundle):
    (bundle.folder / DEB).unlink()
    (bundle.folder / DEB).symlink_to("/etc/hostname")

    with pytest.raises(Refused):
        verify_bundle(bundle.folder, bundle.trust())


def test_a_flipped_byte_in_the_manifest_breaks_the_signature(bundle):
    flip(bundle.folder / "bundle.json", 40)

    with pytest.raises(Refused, match="0 of the 1 signatures"):
        inspect_bundle(bundle.folder, bundle.trust())


def test_somebody_elses_signature_is_refused(bundle, tmp_path):
    somebody = SmallBundle(tmp_path / "else")

    with pytest.raises(Refused, match="signed under another root"):
        verify_bundle(somebody.archive, bundle.trust())


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "apt/../../outside"])
def test_a_signed_path_outside_the_bundle_is_still_refused(bundle, path):
    bundle.seal((CarriedFile(path=path, sha256="0" * 64, size_bytes=0),))

    with pytest.raises(Refused, match="outside the bundle"):
        verify_bundle(bundle.folder, bundle.trust())


def test_a_signed_manifest_of_another_version_is_refused_in_words(bundle):
    manifest = json.loads((bundle.folder / "bundle.json").read_bytes())
    (bundle.folder / "bundle.json").write_bytes(canonical_json({**manifest, "models": [{"name": "of before"}]}))
    bundle.sign(bundle.key, roots=[bundle.root], afresh=True)

    with pytest.raises(Refused, match=r"another version of this product: models\.0\."):
        inspect_bundle(bundle.folder, bundle.trust())


def test_half_a_tar_is_refused(bundle):
    bundle.archive.write_bytes(bundle.archive.read_bytes()[:9000])

    with pytest.raises(Refused):
        verify_bundle(bundle.archive, bundle.trust())


def test_a_bundle_that_is_not_there_names_the_command_that_makes_one(tmp_path, bundle):
    with pytest.raises(BadInput, match="does not exist") as refusal:
        verify_bundle(tmp_path / "nowhere", bundle.trust())

    assert "redoubt bundle build" in refusal.value.remedy


def test_the_same_folder_packs_to_the_same_bytes(bundle, tmp_path):
    again = pack_bundle(bundle.folder, tmp_path / "again.tar")

    assert again.read_bytes() == bundle.archive.read_bytes()


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
