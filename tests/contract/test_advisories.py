"""The two security checks of `make check` can fail: a planted advisory, a planted weakness."""

import json
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tests.support.source import ROOT

CHECK = ROOT / "images/advisories/check.py"
TODAY = "2026-05-02"


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(CHECK), *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def advisory(
    identity: str, package: str, *events: tuple[str, str], versions: tuple[str, ...] = ()
) -> dict[str, object]:
    ranges = [{"type": "ECOSYSTEM", "events": [{kind: at} for kind, at in events]}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": ranges, "versions": list(versions)}
    return {"id": identity, "summary": "planted", "affected": [affected]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "held").mkdir()
    (tmp_path / "held/as_of.json").write_text(json.dumps({"as_of": TODAY}))
    (tmp_path / "a.lock").write_text("Some_Package==1.2.3 \\\n    --hash=sha256:00\nother==2.0\n")
    return tmp_path


def check(folder: Path, *planted: dict[str, object]) -> tuple[int, str]:
    for one in planted:
        (folder / "held" / f"{one['id']}.json").write_text(json.dumps(one))
    return run("--folder", str(folder / "held"), "--lock", str(folder / "a.lock"))


def test_our_own_locks_hold_nothing_that_an_advisory_of_ours_covers():
    status, said = run()
    assert status == 0, said


@pytest.mark.parametrize(
    ("events", "versions", "covered"),
    [
        ([("introduced", "0"), ("fixed", "1.2.4")], (), True),
        ([("introduced", "0"), ("fixed", "1.2.3")], (), False),
        ([("introduced", "1.2.3")], (), True),
        ([("introduced", "1.3")], (), False),
        ([("introduced", "0"), ("last_affected", "1.2.3")], (), True),
        ([("introduced", "0"), ("last_affected", "1.2.2")], (), False),
        ([("introduced", "0"), ("fixed", "1.0"), ("introduced", "1.2"), ("fixed", "1.3")], (), True),
        ([("fixed", "1.3"), ("introduced", "1.2"), ("fixed", "1.0"), ("introduced", "0")], (), True),
        ([("introduced", "not a version")], (), True),
        ([], ("1.2.3",), True),
        ([], ("1.2.30",), False),
    ],
)
def test_a_planted_advisory_is_found_exactly_where_it_covers_a_pin(folder: Path, events, versions, *, covered: bool):
    status, said = check(folder, advisory("TEST-1", "some.package", *events, versions=versions))
    assert (status, "TEST-1" in said) == ((1, True) if covered else (0, False))


def test_the_check_says_how_old_its_data_is(folder: Path):
    days = (datetime.now(UTC).date() - date.fromisoformat(TODAY)).days
    assert f"1 known, {days} days old; 2 pinned versions" in check(folder, advisory("TEST-1", "absent"))[1]


def test_no_advisories_at_all_is_no_pass(folder: Path):
    assert check(folder)[0] == 1


def test_an_export_is_taken_in_as_far_as_it_concerns_a_pin(folder: Path):
    check(folder, advisory("OLD-1", "other", ("introduced", "0")))
    withdrawn = {**advisory("GONE-1", "other", ("introduced", "0")), "withdrawn": TODAY}
    with zipfile.ZipFile(folder / "export.zip", "w") as export:
        for one in (advisory("NEW/1", "other", ("introduced", "0")), advisory("FAR-1", "absent"), withdrawn):
            export.writestr(f"{str(one['id']).replace('/', '-')}.json", json.dumps(one))

    words = ("--folder", str(folder / "held"), "--lock", str(folder / "a.lock"))
    taken, _ = run(*words, "--take-in", str(folder / "export.zip"))

    assert taken == 0
    assert sorted(path.name for path in (folder / "held").iterdir()) == ["NEW_1.json", "as_of.json"]
    assert "other 2.0 is covered by NEW/1" in run(*words)[1]


def test_bandit_as_configured_still_finds_a_weakness(tmp_path: Path):
    weak = tmp_path / "weak.py"
    weak.write_text("import hashlib, subprocess\nsubprocess.Popen('ls ' + x, shell=True)\nhashlib.md5(y)\n")
    words = ["-m", "bandit", "-q", "-c", str(ROOT / "pyproject.toml"), str(weak)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "B602" in done.stdout
    assert "B324" in done.stdout
