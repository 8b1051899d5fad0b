"""A lock is made of what the distribution signed and nothing else, and says what changed."""

import hashlib
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from controlplane.bundle import locking
from controlplane.bundle.cover import require_cover
from controlplane.bundle.deb import control_stanza, licence_of, named_licences
from controlplane.bundle.fetch import Sources, fetch_artefacts
from controlplane.bundle.lock import read_lock, to_text
from controlplane.bundle.locking import LockOrder, changes, make_lock
from controlplane.bundle.mirror import choose_mirror
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.store import BlobStore
from controlplane.kit.errors import BadInput, Refused, Unavailable
from tests.support.packages import NOW, ArchiveKey, FileServer, archive_files, fake_deb
from tests.support.quiet import Quiet

RECIPE: dict[str, dict] = {
    "distribution": {
        "archives": [{"name": "debian", "suites": ["trixie", "trixie-updates"]}],
        "components": ["main"],
        "keyring": "keyring.gpg",
        "signed_by": ["?"],
    },
    "python": {"version": "3.13", "glibc": 40},
    "features": {"base": {"debs": ["tool"]}, "more": {"debs": ["extra"], "local": ["driver"]}},
    "local": {"driver": {"type": "file", "filename": "driver.run", "version": "9", "licence": "Proprietary"}},
}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    key = ArchiveKey(tmp_path_factory.mktemp("k") / "gpg")
    yield key
    key.close()


class Bench:
    """A mirror of a few packages, a store, and a recipe that asks for them."""

    def __init__(self, home: Path, key: ArchiveKey, server: FileServer) -> None:
        self.home, self.key, self.server = home, key, server
        self.store = BlobStore(home / "cache")
        self.said: list[str] = []
        (home / "from").mkdir()
        (home / "from/driver.run").write_bytes(b"driver")
        (home / "pins").write_text("nothing==1")
        self.offer({"tool": "1.0", "lib": "2.0", "extra": "1.0", "unwanted": "1.0", "base-files": "13"})

    def offer(self, versions: dict[str, str], **signed) -> None:
        """Let the mirror have these packages; `tool` needs `lib`, and `base-files` is essential."""
        relations = {"tool": {"Depends": "lib (>= 2)"}, "base-files": {"Essential": "yes"}}
        debs = [fake_deb(name, version, **relations.get(name, {})) for name, version in versions.items()]
        paths = [self.home / f"{name}.deb" for name in versions]
        for path, deb in zip(paths, debs, strict=True):
            path.write_bytes(deb)
        stanzas = [control_stanza(path) for path in paths]
        self.server.files = archive_files(debs, stanzas, self.key, **signed)

    @property
    def recipe(self) -> Recipe:
        asked = RECIPE | {"distribution": RECIPE["distribution"] | {"signed_by": [self.key.fingerprint]}}
        return Recipe.model_validate(asked)

    @property
    def sources(self) -> Sources:
        mirror = partial(choose_mirror, f"{self.server.url}/debian")
        return Sources(mirror, (self.home / "from",), self.recipe.python)

    def lock(self, before=None, **changed):
        order = {
            "recipe": self.recipe, "keyring": self.key.keyring, "pins": self.home / "pins", "project": self.home,
            "sources": self.sources, "before": before, "now": NOW, **changed,
        }  # fmt: skip
        return make_lock(LockOrder(**order), self.store, Quiet(), self.said.append)


@pytest.fixture
def bench(tmp_path, key, monkeypatch):
    monkeypatch.setattr(locking, "_lock_wheels", lambda *_: [])
    with FileServer() as server:
        yield Bench(tmp_path, key, server)


def test_the_lock_has_the_closure_by_feature_with_digests_and_licences(bench):
    lock = bench.lock()

    found = {artefact.name: artefact for artefact in lock.artefacts}
    assert {name: one.needed_by for name, one in found.items()} == {
        "tool": ("base",), "lib": ("base",), "base-files": ("base",), "extra": ("more",), "driver": ("more",),
    }  # fmt: skip
    assert found["tool"].sha256 == hashlib.sha256((bench.home / "tool.deb").read_bytes()).hexdigest()
    assert (found["tool"].licence, found["driver"].licence) == ("MIT", "Proprietary")
    assert found["tool"].source == "debian:pool/tool_1.0_all.deb"


def test_a_lock_reads_back_as_it_was_and_names_no_host(bench, tmp_path):
    lock = bench.lock()
    (tmp_path / "bundle.lock").write_text(to_text(lock))

    assert read_lock(tmp_path / "bundle.lock") == lock
    assert "127.0.0.1" not in to_text(lock)
    assert len(to_text(lock).splitlines()) == len(lock.artefacts) + 2


def test_a_second_lock_of_the_same_is_the_same(bench):
    lock = bench.lock()

    assert bench.lock(before=lock, now=NOW + timedelta(days=1)) == lock


def test_a_new_lock_is_numbered_and_says_what_changed(bench):
    before = bench.lock()
    bench.offer({"tool": "1.1", "lib": "2.0", "extra": "1.0", "base-files": "13"})

    after = bench.lock(before=before)

    (change,) = changes(before, after)
    assert (change.name, change.was, change.now) == ("tool", "1.0", "1.1")
    assert (before.serial, after.serial) == (1, 2)


def test_a_suite_that_the_mirror_lacks_is_told(bench):
    bench.lock()

    assert any("trixie-updates" in line for line in bench.said)


def test_an_index_that_another_key_signed_is_refused(bench):
    asked = bench.recipe.distribution.model_copy(update={"signed_by": ("0" * 40,)})

    with pytest.raises(Refused) as refusal:
        bench.lock(recipe=bench.recipe.model_copy(update={"distribution": asked}))

    assert refusal.value.code == "index_not_trusted"
    assert bench.key.fingerprint in refusal.value.reasons[0]


def test_an_index_whose_text_was_altered_is_refused(bench):
    path = "/debian/dists/trixie/InRelease"
    bench.server.files[path] = bench.server.files[path].replace(b"Codename", b"Codenome")

    with pytest.raises(Refused) as refusal:
        bench.lock()

    assert refusal.value.code == "index_not_trusted"


def test_an_index_of_another_suite_is_refused(bench):
    release = "Codename: sid\nSuite: unstable\nSHA256:\n"
    bench.server.files["/debian/dists/trixie/InRelease"] = bench.key.clearsign(release)

    with pytest.raises(Refused, match="says that it is sid"):
        bench.lock()


def test_an_index_that_is_out_of_date_is_refused(bench):
    bench.offer({"tool": "1.0", "lib": "2.0", "extra": "1.0"}, valid_until=NOW - timedelta(seconds=1))

    with pytest.raises(Refused) as refusal:
        bench.lock()

    assert refusal.value.code == "index_expired"


def test_a_packages_file_that_the_signed_index_does_not_name_is_refused(bench):
    path = next(path for path in bench.server.files if "by-hash" in path)
    bench.server.files[path] = bytes(len(bench.server.files[path]))

    with pytest.raises(Refused) as refusal:
        bench.lock()

    assert refusal.value.code == "artefact_altered"


def test_an_artefact_that_nobody_gave_names_the_option(bench):
    (bench.home / "from/driver.run").unlink()

    with pytest.raises(BadInput, match="is not there") as refusal:
        bench.lock()

    assert "--from" in refusal.value.remedy


def test_what_was_locked_before_needs_no_folder_again(bench):
    before = bench.lock()
    sources = Sources(bench.sources.mirror, (), bench.recipe.python)

    assert bench.lock(before=before, sources=sources).of("file") == before.of("file")


def test_every_artefact_that_does_not_come_is_told_with_its_reason(bench, tmp_path):
    lock = bench.lock()
    for name in ("tool", "extra"):
        del bench.server.files[f"/debian/pool/{name}_1.0_all.deb"]
    (bench.home / "from/driver.run").write_bytes(b"another")

    with pytest.raises(Unavailable) as failure:
        fetch_artefacts(lock.artefacts, bench.sources, BlobStore(tmp_path / "fresh"), Quiet())

    assert failure.value.code == "artefact_gone"
    told = " ".join(failure.value.reasons)
    assert all(word in told for word in ("tool 1.0", "extra 1.0", "not the file that the lock pins"))
    assert len(failure.value.reasons) == 3


def test_a_fetch_brings_only_what_is_missing(bench):
    lock = bench.lock()
    bench.store.drop(lock.of("deb")[0].sha256)

    done = fetch_artefacts(lock.artefacts, bench.sources, bench.store, Quiet())

    # the driver has never been in the store, for a lock only reads it
    assert (done.came, done.here) == (2, 3)


def test_a_lock_that_does_not_cover_the_recipe_names_all_that_is_missing(bench):
    lock = bench.lock()
    asked = bench.recipe.model_dump()
    asked["features"]["more"]["debs"] = ("extra", "newer", "newest")

    with pytest.raises(Refused) as refusal:
        require_cover(lock, Recipe.model_validate(asked), bench.home / "pins")

    assert refusal.value.code == "lock_does_not_cover"
    assert refusal.value.reasons == (
        "no deb newer for the feature more", "no deb newest for the feature more", "no wheel nothing 1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("Format: https://x/copyright-format/1.0/\nLicense: GPL-2+\n\nLicense: MIT\n text", "GPL-2+ AND MIT"),
        ("Format: https://x/copyright-format/1.0/\nLicense: GPL-2 or MIT\nLicense: zlib", "(GPL-2 or MIT) AND zlib"),
        ("This package was debianized by somebody.\nLicense: MIT", "Debian: see copyright"),
    ],
)
def test_licences_come_from_machine_readable_copyright_files_alone(text, licence):
    assert named_licences(text) == licence


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"PK\x03\x04", fake_deb("a")[:200]])
def test_a_file_that_is_no_package_is_refused(tmp_path, content):
    (tmp_path / "a.deb").write_bytes(content)

    with pytest.raises(Refused):
        control_stanza(tmp_path / "a.deb")


def test_a_package_without_copyright_says_so(tmp_path):
    (tmp_path / "a.deb").write_bytes(fake_deb("a"))

    assert licence_of(tmp_path / "a.deb", "other") == "Debian: see copyright"


@pytest.mark.parametrize(
    ("files", "url"),
    [
        (
            {"sources.list": "# deb http://old/debian x\ndeb [a=b] http://one.invalid/debian trixie main"},
            "http://one.invalid",
        ),
        (
            {"sources.list.d/d.sources": "Types: deb\n# c\nURIs: http://two.invalid/x/debian/\nSuites: y"},
            "http://two.invalid/x",
        ),
    ],
    ids=["one line", "deb822"],
)
def test_the_mirror_is_that_of_the_machine_s_apt_sources(tmp_path, files, url):
    (tmp_path / "sources.list.d").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    mirror = choose_mirror(None, "debian", tmp_path)

    assert mirror.url("debian-security", "x") == f"{url}/debian-security/x"


def test_a_machine_without_a_mirror_is_told_how_to_name_one(tmp_path):
    with pytest.raises(BadInput) as refusal:
        choose_mirror(None, "debian", tmp_path)

    assert "--mirror" in refusal.value.remedy
    with pytest.raises(BadInput):
        choose_mirror("ftp://x/debian", "debian")
