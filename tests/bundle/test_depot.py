"""The depot takes a bundle in whole or not at all, and serves the one before until then."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundles import SmallBundle

MODULE = Path("playbooks/library/bundle_unpacked.py")


def test_a_bundle_that_is_whole_becomes_the_current_one(bundle, tmp_path):
    answer = unpack(bundle.archive, bundle.digest, tmp_path / "depot")

    assert answer["changed"] is True
    assert (tmp_path / "depot/current/wheels/files/tool-1.whl").read_bytes() == b"wheel"


def test_the_second_time_nothing_changes(bundle, tmp_path):
    unpack(bundle.archive, bundle.digest, tmp_path / "depot")

    assert unpack(bundle.archive, bundle.digest, tmp_path / "depot")["changed"] is False


@pytest.mark.parametrize("at", [b"deb deb", b"floor"], ids=["in a file", "in the manifest"])
def test_a_byte_that_flipped_on_the_way_in_leaves_the_bundle_before(bundle, tmp_path, at):
    unpack(bundle.archive, bundle.digest, tmp_path / "depot")
    later = SmallBundle(tmp_path / "next", wheel=b"later")
    content = bytearray(later.archive.read_bytes())
    content[content.index(at)] ^= 1
    later.archive.write_bytes(content)

    answer = unpack(later.archive, later.digest, tmp_path / "depot")

    assert "altered on its way in" in answer["msg"]
    assert (tmp_path / "depot/current").readlink().name == bundle.digest
    assert {path.name for path in (tmp_path / "depot").iterdir()} == {"current", bundle.digest}


def unpack(archive: Path, digest: str, folder: Path):
    arguments = {"archive": str(archive), "digest": digest, "folder": str(folder)}
    ansible = str(Path(sys.executable).parent / "ansible")
    local = ["localhost", "--connection=local", f"--module-path={MODULE.parent}", "--module-name=bundle_unpacked"]
    python = ["--extra-vars", f"ansible_python_interpreter={sys.executable}", "--one-line"]
    command = ["env", "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8", ansible, *local, *python, "--args", json.dumps(arguments)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return json.loads(said[said.index("=>") + 2 :])
