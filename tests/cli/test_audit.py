"""redoubt audit verify asks no site, and answers with the verifier's own exit codes."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.audit_export import make_log


def redoubt(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("redoubt"), "audit", *map(str, words)],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_whole_export_is_good_and_a_changed_one_is_not(tmp_path: Path):
    folder = make_log().export(tmp_path / "x")
    assert redoubt("verify", folder).returncode == 0
    (folder / "extra").write_text("x")
    done = redoubt("verify", folder, "--json")
    assert (done.returncode, '"failure": "files"' in done.stdout) == (10, True)
