"""The box as a newcomer starts it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.openai_client import speak

pytestmark = pytest.mark.slow
REDOUBT = Path(sys.executable).parent / "redoubt"


def test_a_check_answers_prints_json_and_leaves_nothing_running(tmp_path: Path) -> None:
    done = subprocess.run(
        [REDOUBT, "box", "--check", "--json", "--home", tmp_path],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"].strip()
    assert _processes_of(tmp_path) == []


@pytest.fixture
def box(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run a box and give its summary."""
    command = [str(REDOUBT), "box", "--json", "--home", str(tmp_path), "--api-port", "0", "--gateway-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield _first_object(running)
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(60)
            except subprocess.TimeoutExpired:
                running.kill()
                raise


def test_the_official_client_speaks_to_the_box(box: dict[str, str]) -> None:
    seen = speak(box["gateway"], box["key"], "", box["model"])
    assert seen["models"] == [box["model"]]
    assert str(seen["answer"]).strip()


def _first_object(running: subprocess.Popen[str]) -> dict[str, str]:
    lines: list[str] = []
    for line in running.stdout or ():
        lines.append(line)
        if line == "}\n":
            break
    return dict(json.loads("".join(lines)))


def _processes_of(home: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(home).encode() in words and b"pytest" not in words:
                found.append(words.decode())
    return found
