"""A delta carries what its base lacks, and makes exactly the bundle that was signed."""

import pytest

from controlplane.bundle.delta import diff_bundles, join_delta, write_delta
from controlplane.bundle.intake import take_in
from controlplane.bundle.media import require_parts, split_tar
from controlplane.bundle.roots import is_good_signature
from controlplane.kit.errors import BadInput, Refused
from tests.bundle.test_intake import asked, journal, serves
from tests.support.bundles import SmallBundle


@pytest.fixture
def following(bundle, tmp_path):
    """The next bundle of the same signer: one file changed, one came, one moved."""
    made = SmallBundle(tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, serial=2)
    made.write("files/new.txt", b"new")
    (made.folder / "apt/pool/tool_1.deb").rename(made.folder / "apt/pool/moved_1.deb")
    made.digest = made.seal()
    return made


@pytest.fixture
def delta(bundle, following, tmp_path):
    write_delta(bundle.folder, following.archive, tmp_path / "delta.tar", bundle.trust())
    return tmp_path / "delta.tar"


def test_a_difference_names_what_came_went_and_changed_and_what_a_delta_would_carry(bundle, following):
    found = diff_bundles(bundle.archive, following.folder, bundle.trust())

    assert [name.split()[0] for name in found.came] == ["apt/pool/moved_1.deb", "files/new.txt"]
    assert [name.split()[0] for name in found.went] == ["apt/pool/tool_1.deb"]
    assert [name.split()[0] for name in found.changed] == ["wheels/files/tool-1.whl"]
    assert (found.carried_files, found.carried_bytes) == (2, len(b"later") + len(b"new"))


def test_a_delta_is_taken_in_on_its_base(bundle, following, delta, tmp_path):
    depot = tmp_path / "depot"
    take_in(asked(bundle, depot), is_good_signature)

    taken = take_in(asked(following, depot, source=delta), is_good_signature)

    assert serves(depot, following)
    assert taken.written_bytes == len(b"later") + len(b"new")


def test_a_delta_without_its_base_is_refused_by_the_base_and_a_file(following, delta, bundle, tmp_path):
    depot = tmp_path / "depot"

    with pytest.raises(Refused, match=f"stands on bundle {bundle.digest[:16]}") as refusal:
        take_in(asked(following, depot, source=delta), is_good_signature)

    assert "apt/pool/moved_1.deb is missing" in refusal.value.reasons
    assert "refused: the delta stands on" in str(journal(depot)[-1]["result"])
    assert not (depot / "current").exists()


def test_a_delta_on_a_base_that_rotted_is_refused_by_the_file(bundle, following, delta, tmp_path):
    depot = tmp_path / "depot"
    take_in(asked(bundle, depot), is_good_signature)
    (depot / "current/apt/pool/tool_1.deb").write_bytes(b"dEb " * 5000)

    with pytest.raises(Refused, match=r"apt/pool/moved_1\.deb is altered"):
        take_in(asked(following, depot, source=delta), is_good_signature)

    assert (depot / "current").readlink().name == bundle.digest


def test_a_delta_joins_with_its_base_to_the_very_tar_that_was_built(bundle, following, delta, tmp_path):
    join_delta(delta, bundle.archive, tmp_path / "joined.tar", bundle.trust())

    assert (tmp_path / "joined.tar").read_bytes() == following.archive.read_bytes()


def test_joining_with_another_base_is_refused(following, delta, bundle, tmp_path):
    with pytest.raises(Refused, match="the delta stands on bundle"):
        join_delta(delta, following.archive, tmp_path / "joined.tar", bundle.trust())


def test_joining_what_is_no_delta_is_a_usage_error(bundle, following, tmp_path):
    with pytest.raises(BadInput, match="is no delta"):
        join_delta(following.archive, bundle.archive, tmp_path / "joined.tar", bundle.trust())


def test_a_delta_in_parts_is_taken_in_from_its_parts(bundle, following, delta, tmp_path):
    depot = tmp_path / "depot"
    take_in(asked(bundle, depot), is_good_signature)
    split_tar(delta, 30_000, tmp_path / "media")

    take_in(
        asked(following, depot, source=tmp_path / "media", parts=lambda: require_parts([tmp_path / "media"])),
        is_good_signature,
    )

    assert serves(depot, following)


@pytest.mark.parametrize("where", [b"later", b'"base"', b'"result"', b'"signature"'])
def test_a_flipped_byte_in_a_delta_is_refused(bundle, following, delta, tmp_path, where):
    depot = tmp_path / "depot"
    take_in(asked(bundle, depot), is_good_signature)
    raw = bytearray(delta.read_bytes())
    raw[raw.index(where) + len(where) + 3 if where != b"later" else raw.index(where)] ^= 1
    delta.write_bytes(raw)

    with pytest.raises(Refused):
        take_in(asked(following, depot, source=delta), is_good_signature)
    assert serves(depot, bundle)
