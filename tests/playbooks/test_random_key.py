"""A secret is made once, and never another one in place of what has sealed something."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.gateway.batch.content_key import CHECK_FILE, read_content_key

MODULE = Path("playbooks/library/random_key.py")
SPEC = importlib.util.spec_from_file_location("random_key", MODULE)
assert SPEC
assert SPEC.loader
random_key = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(random_key)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return a secret that has sealed something."""
    path = tmp_path / "key"
    random_key.create(path, 32)
    read_content_key(path, tmp_path / "content")
    return path


@pytest.fixture
def check(tmp_path: Path) -> Path:
    return tmp_path / "content" / CHECK_FILE


def test_the_gateways_check_value_is_the_one_that_the_role_compares(key: Path, check: Path):
    assert random_key.trouble(key, check) == ""


def test_a_secret_that_has_sealed_nothing_may_be_made(tmp_path: Path, check: Path):
    assert random_key.trouble(tmp_path / "key", check) == ""


def test_another_secret_than_the_one_that_sealed_is_told(key: Path, check: Path):
    key.write_text("quite another secret of many characters")

    assert "is not the secret that sealed" in random_key.trouble(key, check)


def test_a_lost_secret_is_not_made_anew_over_what_it_sealed(key: Path, check: Path):
    key.unlink()
    asked = {"path": str(key), "check_value": str(check), "tell": False, "_ansible_check_mode": True}

    done = subprocess.run(
        [sys.executable, MODULE, json.dumps({"ANSIBLE_MODULE_ARGS": asked})],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    answer = json.loads(done.stdout)
    assert answer["failed"]
    assert f"rm -r {check.parent}" in answer["msg"]
    assert not key.exists()
