"""One lock gives one bundle, wherever and by whomever it is built; what stood before stays until that is whole."""

import errno
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.bundle import build as under_test
from controlplane.bundle.build import Order, build_bundle
from controlplane.bundle.keys import builder_keys
from controlplane.bundle.lock import Artefact, Lock, LockedDistribution, digest_of, read_lock
from controlplane.bundle.project import Project
from controlplane.bundle.recipe import Recipe, choose_features
from controlplane.bundle.relations import parse_index
from controlplane.bundle.signing import sign_bundle
from controlplane.bundle.store import BlobStore
from controlplane.bundle.trust import root_bytes
from controlplane.bundle.verify import Trust, verify_bundle
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.errors import Refused, Unavailable
from tests.support.bundles import signed_root
from tests.support.local_artefacts import collection, image
from tests.support.packages import fake_deb
from tests.support.wheels import fake_wheel

RECIPE = Recipe.model_validate({
    "distribution": {
        "archives": [{"name": "debian", "suites": ["trixie"]}], "components": ["main"],
        "keyring": "x", "signed_by": ["x"],
    },
    "python": {"version": "3.13", "glibc": 40},
    "features": {
        "base": {"debs": ["a"], "extras": ["agent"]}, "more": {"debs": ["b"], "local": ["tool", "box", "roles"]},
    },
    "local": {
        "tool": {"type": "file", "filename": "tool.run", "version": "1", "licence": "MIT"},
        "box": {"type": "oci", "filename": "box.tar", "version": "1", "licence": "MIT"},
        "roles": {"type": "collection", "filename": "x-y-1.0.0.tar.gz", "version": "1.0.0", "licence": "MIT"},
    },
})  # fmt: skip


@pytest.fixture(autouse=True)
def _a_small_project(monkeypatch, tmp_path_factory):
    """The product's own wheel takes seconds to build and has a test of its own."""
    home = tmp_path_factory.mktemp("project")
    wheel = fake_wheel(home, "redoubt", "0.1.0")
    (home / "agent.txt").write_text("redoubt==0.1.0\n")
    monkeypatch.setattr(under_test, "make_project", lambda *_: Project(wheel, {"agent": home / "agent.txt"}))


@pytest.fixture
def order(tmp_path):
    return make_order(tmp_path / "one")


def make_order(home: Path) -> Order:
    """Return an order of a machine of its own: store, keys and folders."""
    home.mkdir()
    store = BlobStore(home / "cache")
    artefacts = [
        kept(store, home, "deb", "a", "a_1_all.deb", fake_deb("a"), "base", "more"),
        kept(store, home, "deb", "b", "b_1_all.deb", fake_deb("b", Depends="a"), "more"),
        kept(
            store,
            home,
            "wheel",
            "some-tool",
            "some_tool-1-py3-none-any.whl",
            fake_wheel(home / "w", "some.tool", "1").read_bytes(),
            "base",
        ),
        kept(store, home, "file", "tool", "tool.run", b"tool" * 1000, "more"),
        kept(store, home, "oci", "box", "box.tar", image(), "more"),
        kept(store, home, "collection", "roles", "x-y-1.0.0.tar.gz", collection(), "more"),
    ]
    lock = Lock(
        serial=3,
        created_at=datetime(2026, 11, 27, 4, tzinfo=UTC),
        recipe="0" * 64,
        distribution=LockedDistribution(suite="trixie", architecture="amd64", indexes=()),
        artefacts=tuple(artefacts),
    )
    out = home / "out/bundle"
    return Order(RECIPE, lock, out, out.with_name("bundle.tar"), home, home / "cache")


def kept(store, home, kind, name, filename, content, *needed_by):
    path = home / filename
    path.write_bytes(content)
    return Artefact(
        type=kind, name=name, version="1", filename=filename, source=f"local:{name}", size_bytes=len(content),
        sha256=store.add(path), needed_by=needed_by, licence="MIT",
    )  # fmt: skip


def build(order):
    return build_bundle(order, lambda _: None)


def test_two_builders_with_different_keys_get_one_digest(order, tmp_path):
    other = make_order(tmp_path / "two")

    mine, theirs = build(order), build(other)

    assert mine.digest == theirs.digest
    assert (order.cache / "keys/bundle.pub").read_bytes() != (other.cache / "keys/bundle.pub").read_bytes()
    for path in (path for path in order.out.rglob("*") if path.is_file()):
        name = path.relative_to(order.out)
        beside = name.parts[0] == "trust" or name.name == "InRelease"
        assert beside or path.read_bytes() == (other.out / name).read_bytes(), name


def test_every_type_lies_in_its_place_and_in_the_lock_of_the_bundle(order):
    build(order)

    assert {path.relative_to(order.out).as_posix() for path in order.out.rglob("*.*") if path.is_file()} >= {
        "apt/pool/a_1_all.deb", "wheels/files/some_tool-1-py3-none-any.whl",
        "wheels/files/redoubt-0.1.0-py3-none-any.whl",
        "wheels/simple/redoubt/index.json", "requirements/agent.txt", "files/tool.run", "oci/box.tar",
        "collections/x-y-1.0.0.tar.gz", "licences.json", "sbom/merged.cdx.json", "sbom/deb/a_1_all.deb.cdx.json",
    }  # fmt: skip
    whole = read_lock(order.out / "lock.json")
    assert {artefact.name for artefact in whole.artefacts} == {
        "a", "b", "some-tool", "tool", "box", "roles", "redoubt", "requirements-agent",
    }  # fmt: skip
    assert json.loads((order.out / "bundle.json").read_text())["lock"] == digest_of(whole)


def test_the_manifest_takes_its_terms_from_lock_and_recipe(order):
    build(order)

    manifest = json.loads((order.out / "bundle.json").read_text())
    assert (manifest["serial"], manifest["floor"], manifest["suite"]) == (3, 1, "trixie")
    assert manifest["created_at"] == "2026-11-27T04:00:00Z"
    assert manifest["expires_at"] == "2027-11-27T04:00:00Z"


def test_apt_and_the_repository_agree_about_every_package(order):
    build(order)

    index = (order.out / "apt/dists/redoubt/main/binary-amd64/Packages").read_text()
    for package in parse_index(index, "redoubt", "amd64"):
        content = (order.out / "apt" / package.fields["Filename"]).read_bytes()
        assert (package.fields["SHA256"], int(package.fields["Size"])) == (sha256_hex(content), len(content))
    release = (order.out / "apt/dists/redoubt/Release").read_text()
    assert f" {sha256_hex(index.encode())} {len(index)} main/binary-amd64/Packages" in release
    assert "Date: Fri, 27 Nov 2026 04:00:00 UTC" in release


def test_a_feature_that_is_not_chosen_stays_out(order):
    build(replace(order, recipe=choose_features(RECIPE, ("base",))))

    assert not (order.out / "apt/pool/b_1_all.deb").exists()
    assert (order.out / "apt/pool/a_1_all.deb").exists()


def test_the_bill_of_materials_names_every_artefact_with_its_digest(order):
    build(order)

    merged = json.loads((order.out / "sbom/merged.cdx.json").read_text())
    whole = read_lock(order.out / "lock.json")
    assert (merged["bomFormat"], merged["specVersion"]) == ("CycloneDX", "1.6")
    assert {one["hashes"][0]["content"] for one in merged["components"]} == {one.sha256 for one in whole.artefacts}
    assert UUID(merged["serialNumber"].removeprefix("urn:uuid:")).version == 5
    assert "pkg:deb/debian/a@1?arch=all" in {one["purl"] for one in merged["components"]}
    assert json.loads((order.out / "licences.json").read_text())["licences"]["MIT"] == 6


def test_packing_the_tar_tells_whoever_watches_of_every_byte(order):
    progress = Mock()

    built = build_bundle(order, lambda _: None, progress)

    progress.start.assert_called_once_with("write bundle.tar", built.size_bytes)
    assert sum(call.args[0] for call in progress.advance.call_args_list) == built.size_bytes
    progress.end.assert_called_once_with()


def test_the_second_build_leaves_a_whole_bundle_as_it_is(order):
    first = build(order)
    before = (order.out / "trust/signatures.json").stat().st_ino

    second = build(order)

    assert (first.fresh, second.fresh) == (True, False)
    assert (order.out / "trust/signatures.json").stat().st_ino == before


SPOILT = {
    "a file altered": lambda o: overwrite(o.out / "licences.json"),
    "a file missing": lambda o: (o.out / "apt/pool/a_1_all.deb").unlink(),
    "a file more": lambda o: (o.out / "apt/rogue").write_text("x"),
    "unsigned": lambda o: (o.out / "trust/signatures.json").unlink(),
    "no tar": lambda o: o.archive.unlink(),
    "half a tar": lambda o: os.truncate(o.archive, 40_000),
    "a byte of the tar": lambda o: overwrite(o.archive, 9000),
    "no folder": lambda o: shutil.rmtree(o.out),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_bundle_that_is_damaged_or_half_there_is_made_anew(order, spoil):
    digest = build(order).digest
    spoil(order)

    again = build(order)

    assert (again.fresh, again.digest) == (True, digest)
    for form in (order.out, order.archive):
        assert verify_bundle(form, Trust(order.cache)).digest == digest


def overwrite(path, at=0):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("listed", [True, False], ids=["the builder among them", "others alone"])
def test_under_a_root_of_several_a_build_ends_well_keeps_signatures_and_is_not_believed_before_all_sign(order, listed):
    alice, bob = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    keys = builder_keys(order.cache / "keys")
    first = load_signing_key(keys.signing) if listed else alice
    root = signed_root(first, bob, threshold=2)
    (keys.roots / "root.1.json").write_bytes(root_bytes(root))

    built = build(order)
    with pytest.raises(Refused, match=f"{int(listed)} of the 2 signatures"):
        verify_bundle(built.folder, Trust(order.cache))
    for key in (first, bob):
        sign_bundle(built.folder, key)
    again = build(order)

    assert again.fresh is False
    assert len(verify_bundle(built.archive, Trust(order.cache)).signers) == 2


def test_what_was_not_fetched_is_named_with_the_command_that_brings_it(order):
    BlobStore(order.cache).drop(order.lock.artefacts[1].sha256)

    with pytest.raises(Unavailable) as refusal:
        build(order)

    assert refusal.value.reasons == ("deb b 1",)
    assert "redoubt bundle fetch" in refusal.value.remedy


def test_a_damaged_file_of_the_store_is_found_dropped_and_named(order):
    tool = order.lock.of("file")[0]
    path = BlobStore(order.cache).path(tool.sha256)
    overwrite(path)

    with pytest.raises(Refused) as refusal:
        build(order)

    assert refusal.value.code == "artefact_altered"
    assert "files/tool.run" in refusal.value.detail
    assert not path.exists()
    assert not order.out.exists()


def test_a_package_that_is_another_than_the_lock_says_is_refused(order):
    a, *others = order.lock.artefacts
    lock = order.lock.model_copy(update={"artefacts": (a.model_copy(update={"version": "2"}), *others)})

    with pytest.raises(Refused, match="is a 1, not a 2"):
        build(replace(order, lock=lock))


def test_a_full_disk_leaves_the_bundle_before_and_says_so(order, monkeypatch):
    before = build(order)
    changed = replace(order, lock=order.lock.model_copy(update={"serial": 4}))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "/out")

    monkeypatch.setattr(under_test, "pack_bundle", full)
    with pytest.raises(Unavailable) as failure:
        build(changed)

    assert failure.value.code == "disk_full"
    assert verify_bundle(order.out, Trust(order.cache)).digest == before.digest
    assert verify_bundle(order.archive, Trust(order.cache)).digest == before.digest
    assert {path.name for path in order.out.parent.iterdir()} == {"bundle", "bundle.tar", ".bundle.lock"}


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15, 0.4])
def test_a_build_that_is_killed_leaves_the_bundle_before_and_the_next_one_works(order, after_s):
    before = build(order)
    child = os.fork()
    if child == 0:  # the process that is killed
        build(replace(order, lock=order.lock.model_copy(update={"serial": 4})))
        os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    after = build(order)

    assert after.digest == before.digest
    assert verify_bundle(order.out, Trust(order.cache)).digest == before.digest
    assert {path.name for path in order.out.parent.iterdir()} == {"bundle", "bundle.tar", ".bundle.lock"}


def test_a_bundle_that_was_put_aside_by_a_killed_build_comes_back(order):
    before = build(order)
    aside = order.out.with_name(".bundle.building-x")
    aside.mkdir()
    order.out.rename(aside / "before")

    assert build(order).fresh is False
    assert verify_bundle(order.out, Trust(order.cache)).digest == before.digest


def test_a_tar_that_a_killed_build_left_unfinished_goes_though_nothing_is_built(order):
    build(order)
    left = order.archive.with_name(".bundle.tar.unfinished")
    left.write_bytes(b"half")

    assert build(order).fresh is False
    assert not left.exists()


def test_the_folder_shares_its_bytes_with_the_store(order):
    build(replace(order, archive=None))

    linked = order.out / "files/tool.run"
    assert linked.stat().st_ino == BlobStore(order.cache).path(order.lock.of("file")[0].sha256).stat().st_ino
    assert not order.archive.exists()
