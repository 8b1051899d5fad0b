"""A practice site is made of the repository's lock, or of a new one, loudly, when the mirror has moved on."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab.errors import LabError
from practice import bundle

from controlplane.bundle.lock import Artefact, Lock, LockedDistribution, read_lock, to_text

STATUS = "Package: one\nStatus: install ok installed\nVersion: {}\n\nPackage: other\nVersion: 9\n"


class Cli:
    """Takes the words of the CLI; the first fetch fails if the mirror has moved on."""

    def __init__(self, *, moved: bool) -> None:
        self.moved = moved
        self.asked: list[object] = []

    def __call__(self, *words: object) -> str:
        self.asked.append(words[1])
        if self.moved and words[1] == "fetch" and "--lock" not in words:
            raise LabError("1 of 2 artefacts did not come")
        return ""


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("REDOUBT_CACHE", str(tmp_path))
    return tmp_path / "practice/bundle.lock"


def lock(version: str = "1.0", serial: int = 1) -> Lock:
    deb = Artefact(
        type="deb", name="one", version=version, filename="one.deb", source="debian:one.deb", size_bytes=1,
        sha256="0" * 64, needed_by=("base",), licence="MIT",
    )  # fmt: skip
    distribution = LockedDistribution(suite="trixie", architecture="amd64", indexes=())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Lock(serial=serial, created_at=at, recipe="0" * 64, distribution=distribution, artefacts=(deb,))


def image(folder: Path, version: str) -> Path:
    status = folder / "image/var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(STATUS.format(version))
    return folder / "image"


def test_a_mirror_that_still_has_everything_needs_no_new_lock(cached):
    cli = Cli(moved=False)

    assert bundle.fetch(cli) == bundle.LOCK
    assert cli.asked == ["fetch"]


def test_a_mirror_that_moved_on_makes_a_new_lock_in_the_cache_and_says_so(cached, capsys):
    cli = Cli(moved=True)

    assert bundle.fetch(cli) == cached
    assert cli.asked == ["fetch", "lock", "fetch"]
    assert "WARNING: images/bundle.lock is out of date" in capsys.readouterr().err
    assert read_lock(cached) == read_lock(bundle.LOCK)  # where the new one begins, so that its serial is higher


def test_a_later_lock_of_the_cache_is_gone_on_with(cached):
    cached.parent.mkdir()
    cached.write_text(to_text(lock(serial=99)))

    bundle.lock_anew(Cli(moved=False), "a test")

    assert read_lock(cached).serial == 99


@pytest.mark.parametrize(("version", "newer"), [("1.0", []), ("0.9", []), ("1.0+deb13u1", ["one"]), ("1.0~rc1", [])])
def test_an_image_with_a_newer_package_than_the_lock_is_found(tmp_path, version, newer):
    assert bundle.newer_in(image(tmp_path, version), lock()) == newer


def test_an_image_with_newer_packages_makes_a_new_lock(cached, tmp_path):
    cli = Cli(moved=False)
    (tmp_path / "old.lock").write_text(to_text(lock()))

    assert bundle.fit(cli, tmp_path / "old.lock", image(tmp_path, "2.0")) == cached
    assert cli.asked == ["lock", "fetch"]
