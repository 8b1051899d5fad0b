"""The module of the depot's node: it runs the program, and says in one line why a bundle was not taken in."""

from pathlib import Path

import pytest

from controlplane.bundle.depot_program import _platform
from tests.support.ansible import run_module
from tests.support.bundles import SmallBundle


@pytest.fixture
def bundle(tmp_path):
    """A bundle for the machine that runs the test, because the program asks the node what it is."""
    return SmallBundle(tmp_path / "first", **vars(_platform()))


def test_a_bundle_that_is_whole_becomes_the_current_one_and_its_tar_is_used_up(bundle, tmp_path):
    answer = unpack(bundle, tmp_path / "depot")

    assert answer["changed"] is True
    assert (tmp_path / "depot/current/wheels/files/tool-1.whl").read_bytes() == b"wheel"
    assert not bundle.archive.exists()


def test_the_second_time_nothing_changes(bundle, tmp_path):
    unpack(bundle, tmp_path / "depot")

    assert unpack(bundle, tmp_path / "depot")["changed"] is False


def test_a_byte_that_flipped_on_the_way_in_leaves_the_bundle_before(bundle, tmp_path):
    unpack(bundle, tmp_path / "depot")
    later = SmallBundle(
        tmp_path / "next", wheel=b"later", key=bundle.key, root=bundle.root, **{**bundle.facts, "serial": 2}
    )
    content = bytearray(later.archive.read_bytes())
    content[content.index(b"later")] ^= 1
    later.archive.write_bytes(content)

    answer = unpack(later, tmp_path / "depot")

    assert "the depot serves the one before" in answer["msg"]
    assert "wheels/files/tool-1.whl is altered" in answer["msg"]
    assert (tmp_path / "depot/current").readlink().name == bundle.digest


def unpack(bundle: SmallBundle, folder: Path):
    arguments = {
        "archive": str(bundle.archive), "digest": bundle.digest, "folder": str(folder),
        "root": str(bundle.root_file), "library": str(Path.cwd()),
    }  # fmt: skip
    return run_module("bundle_unpacked", arguments)
