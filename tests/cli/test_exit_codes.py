"""The command as a person runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

REDOUBT = Path(sys.executable).parent / "redoubt"


def run(home: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "NO_COLOR": "1", **more}
    return subprocess.run([REDOUBT, *words], capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    "words", [("--nonsense",), ("endpoint", "create"), ("nobody",), ("key", "create", "x", "--kind", "y")]
)
def test_a_wrong_usage_exits_2_and_says_what_is_wrong(tmp_path, words):
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage:" in done.stderr


@pytest.mark.parametrize("words", [("endpoint", "list"), ("fleet",), ("whoami",), ("audit", "list")])
def test_before_enrolment_every_verb_is_refused_with_the_next_step(tmp_path, words):
    done = run(tmp_path, *words)
    assert done.returncode == 3
    assert "next: redoubt enrol" in done.stderr


def test_an_api_that_does_not_answer_is_a_failure_with_a_cause(tmp_path):
    password = tmp_path / "password"
    password.write_text("quartz lantern mosaic 71")
    where = ("--url", "http://127.0.0.1:9", "--code", "enrol_0123456789", "--password-file", str(password))
    done = run(tmp_path, "enrol", "--name", "ada", *where)
    assert done.returncode == 1
    assert "no answer from 127.0.0.1:9" in done.stderr
    assert not (tmp_path / ".config").exists()


def test_a_name_that_no_endpoint_can_have_is_refused_before_anything_is_sent(tmp_path):
    environment = {"REDOUBT_URL": "http://127.0.0.1:9", "REDOUBT_TOKEN": "rdt_x"}
    done = run(tmp_path, "endpoint", "create", "Not_A_Name", "--model", "tiny", **environment)
    assert done.returncode == 2
    assert "name:" in done.stderr
    assert "Not_A_Name" in done.stderr
