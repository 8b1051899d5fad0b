"""A site is closed as the tree stands, and anything planted in a role turns it red at its line."""

import shutil
import tomllib
from pathlib import Path

import pytest

from controlplane.bundle.closure import allowances
from controlplane.bundle.closure.finding import Finding
from controlplane.bundle.lock import read_lock
from controlplane.cli.bundle_closure import find_gaps_of
from controlplane.cli.site_options import read_site
from tests.support.source import ROOT

SITES = sorted(path.parent.name for path in (ROOT / "inventory").glob("*/site.yml"))
LOCK = ROOT / "images/bundle.lock"
PLANTS = tomllib.loads((Path(__file__).parent / "plants.toml").read_text())


@pytest.fixture
def tree(tmp_path) -> Path:
    return copied(tmp_path)


def copied(folder: Path) -> Path:
    for name in ("playbooks", "images/bundle.toml", "images/closure.toml", "pyproject.toml"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[dict[str, tuple[str, range]], tuple[Finding, ...]]:
    """Where everything was planted, and what one walk found: a walk a plant would take a minute."""
    root, places = copied(tmp_path_factory.mktemp("planted")), {}
    for name, plant in PLANTS.items():
        path = (root / "playbooks/roles" / plant["file"]).resolve()
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if path.exists() else ""
        path.write_text(before + plant["text"])
        first = before.count("\n") + 1
        places[name] = (path.relative_to(root).as_posix(), range(first, first + plant["text"].count("\n") + 1))
    return places, gaps_of(ROOT / "inventory/example/site.yml", LOCK, root)


def gaps_of(spec: Path, lock: Path, root: Path) -> tuple[Finding, ...]:
    site, text = read_site(spec)
    return find_gaps_of(site, spec, text, read_lock(lock), root)


@pytest.mark.parametrize("site", SITES)
def test_nothing_of_the_tree_reaches_beyond_the_lock(site):
    gaps = gaps_of(ROOT / "inventory" / site / "site.yml", LOCK, ROOT)

    assert [str(gap) for gap in gaps] == []


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_in_a_role_is_found_at_its_line(name, planted):
    places, gaps = planted
    path, lines = places[name]

    found = [gap for gap in gaps if gap.path == path and gap.line in lines and gap.kind == PLANTS[name]["kind"]]

    assert PLANTS[name]["what"] in " ".join(gap.what for gap in found), [str(gap) for gap in gaps if gap.path == path]
    assert all(gap.remedy for gap in found)


def test_a_binary_is_refused_because_nobody_can_look_into_it(tree):
    path = tree / "playbooks/roles/node_agent/files/tool"
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF\0\0")

    gaps = gaps_of(ROOT / "inventory/example/site.yml", LOCK, tree)

    assert [(gap.path, gap.kind) for gap in gaps] == [("playbooks/roles/node_agent/files/tool", "file")]


def test_a_role_that_the_site_does_not_use_is_not_walked(tree):
    path = tree / "playbooks/roles/practice/tasks/configure.yml"
    path.write_text(path.read_text() + PLANTS["get_url"]["text"])

    gaps = gaps_of(ROOT / "inventory/example/site.yml", LOCK, tree)
    practice_gaps = gaps_of(ROOT / "inventory/practice/site.yml", LOCK, tree)

    assert gaps == ()
    assert {gap.kind for gap in practice_gaps} == {"module"}


@pytest.mark.parametrize(
    ("kind", "name"), [("deb", "chrony"), ("wheel", "uvloop"), ("deb", "python3-apt")], ids=["deb", "wheel", "python3"]
)
def test_a_lock_that_lacks_what_the_site_needs_does_not_cover_it(kind, name, tmp_path):
    short = tmp_path / "bundle.lock"
    short.write_text(
        LOCK.read_text().replace(f'"type": "{kind}", "name": "{name}"', f'"type": "{kind}", "name": "other"')
    )

    gaps = gaps_of(ROOT / "inventory/practice/site.yml", short, ROOT)

    assert name in {gap.what for gap in gaps}


def test_a_model_that_nobody_carries_is_named_at_its_line(tmp_path):
    spec = tmp_path / "site.yml"
    text = (ROOT / "inventory/practice/site.yml").read_text().replace("[practice-tiny]", "[practice-huge]")
    spec.write_text(text)

    gaps = gaps_of(spec, LOCK, ROOT)

    line = text.splitlines().index("models: [practice-huge]") + 1
    assert [(gap.kind, gap.what, gap.line) for gap in gaps] == [("model", "practice-huge", line)]


def test_every_exception_has_a_reason_and_is_still_needed(monkeypatch):
    found: list[Finding] = []

    def keep_all(findings, _):
        found.extend(findings)
        return (), ()

    monkeypatch.setattr(allowances, "without_allowed", keep_all)
    for site in SITES:
        gaps_of(ROOT / "inventory" / site / "site.yml", LOCK, ROOT)

    allowed = allowances.read_allowances(ROOT / "images/closure.toml")

    assert [one.path for one in allowed if not any(one.covers(finding) for finding in found)] == []
    assert all(len(one.reason) > 20 for one in allowed)
