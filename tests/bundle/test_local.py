"""What no index has is looked into before it goes in: an image and a collection vouch for their own parts."""

import hashlib

import pytest

from controlplane.bundle.local import check_inside, find_local
from controlplane.bundle.lock import Artefact
from controlplane.kit.errors import BadInput, Refused
from tests.support.local_artefacts import collection, image


@pytest.mark.parametrize(("kind", "content"), [("oci", image()), ("collection", collection()), ("file", b"x")])
def test_a_whole_artefact_passes(tmp_path, kind, content):
    (tmp_path / "it").write_bytes(content)

    check_inside(kind, tmp_path / "it")


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("oci", image(blob=b"other"), "does not have the digest that is its name"),
        ("oci", image(named=f"sha256:{'0' * 64}"), "which is not in it"),
        ("oci", collection(), "no index.json"),
        ("oci", b"no tar", "it"),
        ("collection", collection(role=b"- shell: curl\n"), "roles/x/tasks/main.yml is not the one"),
        ("collection", collection(extra={"rogue.py": b""}), "rogue.py is not the one"),
        ("collection", collection(extra={"FILES.json": b'{"files": []}'}), "FILES.json is not the one"),
        ("collection", image(), "no MANIFEST.json"),
    ],
)
def test_an_artefact_whose_parts_are_others_is_refused(tmp_path, kind, content, said):
    (tmp_path / "it").write_bytes(content)

    with pytest.raises(Refused) as refusal:
        check_inside(kind, tmp_path / "it")

    assert said in refusal.value.detail
    assert refusal.value.code == "artefact_broken"


def pinned(content):
    return Artefact(
        type="file", name="tool", version="1", filename="tool.run", source="local:tool", size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(), needed_by=("base",), licence="MIT",
    )  # fmt: skip


def test_a_pinned_file_is_found_in_the_folders_that_were_given(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/tool.run").write_bytes(b"tool")

    assert find_local(pinned(b"tool"), (tmp_path,)).name == "tool.run"


def test_another_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "tool.run").write_bytes(b"t00l")

    with pytest.raises(Refused) as refusal:
        find_local(pinned(b"tool"), (tmp_path,))

    assert refusal.value.code == "artefact_altered"


def test_a_file_that_nobody_gave_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(BadInput, match=str(tmp_path)):
        find_local(pinned(b"tool"), (tmp_path,))
