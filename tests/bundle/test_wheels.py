"""The index of wheels is plain files that pip reads, and every pin carries its hash."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controlplane.bundle.index import IndexedWheel, write_index
from controlplane.bundle.lock import Artefact
from controlplane.bundle.project import store_plainly
from controlplane.bundle.recipe import Python
from controlplane.bundle.store import BlobStore
from controlplane.bundle.wheels import build_wheel, fetch_wheels, read_pins, wheel_licence
from tests.support.wheels import fake_wheel


def test_pip_installs_from_the_index_by_hash(tmp_path):
    wheel = fake_wheel(tmp_path / "files", "Some.Tool", "1.0")
    index(tmp_path, wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    done = pip_download(tmp_path, f"some-tool==1.0 --hash=sha256:{digest}")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got" / wheel.name).read_bytes() == wheel.read_bytes()


def test_pip_refuses_a_wheel_that_was_altered_after_it_was_indexed(tmp_path):
    wheel = fake_wheel(tmp_path / "files", "Some.Tool", "1.0")
    index(tmp_path, wheel)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fake_wheel(tmp_path / "files", "Some.Tool", "1.0", content="print('rogue')")

    done = pip_download(tmp_path, f"some-tool==1.0 --hash=sha256:{digest}")

    assert done.returncode != 0


def test_the_index_is_json_too(tmp_path):
    wheel = fake_wheel(tmp_path / "files", "Some.Tool", "1.0")
    index(tmp_path, wheel)

    (file,) = json.loads((tmp_path / "simple/some-tool/index.json").read_text())["files"]
    assert file["hashes"]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (file["size"], file["requires-python"]) == (wheel.stat().st_size, ">=3.11")
    assert json.loads((tmp_path / "simple/index.json").read_text())["projects"] == [{"name": "some-tool"}]


@pytest.mark.slow
def test_the_project_builds_to_the_same_bytes_twice_and_no_compressor_has_a_say(tmp_path):
    built = [build_wheel(tmp_path / folder, Path.cwd()) for folder in ("one", "two")]

    one, two = (store_plainly(wheel, wheel.with_suffix(".plain")) for wheel in built)

    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as plain:
        assert {entry.compress_type for entry in plain.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        (
            "License-Expression: MIT OR Apache-2.0\nClassifier: License :: OSI Approved :: BSD License",
            "MIT OR Apache-2.0",
        ),
        ("License: see file\nClassifier: License :: OSI Approved :: BSD License", "BSD License"),
        ("License: MIT", "MIT"),
        ("Summary: x", "unknown"),
    ],
)
def test_the_licence_of_a_wheel_is_what_its_metadata_states(tmp_path, metadata, licence):
    assert wheel_licence(fake_wheel(tmp_path / "files", "tool", "1", metadata=metadata + "\n")) == licence


def test_pins_are_read_with_all_their_hashes(tmp_path):
    one, two = "a" * 64, "b" * 64
    (tmp_path / "pins").write_text(
        f"# made by\nSome.Tool==1.0 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{two}\nx==2\n"
    )

    first, second = read_pins(tmp_path / "pins")

    assert (first.name, first.version, set(first.hashes)) == ("Some.Tool", "1.0", {one, two})
    assert (second.name, second.hashes) == ("x", frozenset())


def index(folder: Path, wheel: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    write_index(folder, [IndexedWheel("some-tool", "1.0", wheel.name, digest, wheel.stat().st_size, ">=3.11")])


def pip_download(folder: Path, pin: str):
    (folder / "pins.txt").write_text(pin)
    index = [
        "--isolated",
        "--index-url",
        (folder / "simple").as_uri(),
        "--no-deps",
        "--require-hashes",
        "--no-cache-dir",
    ]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *index]
    wanted = ["--dest", str(folder / "got"), "--requirement", str(folder / "pins.txt")]
    return subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)


def test_a_wheel_that_does_not_come_is_the_one_that_is_named(tmp_path, monkeypatch):
    wheels = [fake_wheel(tmp_path / "links", name, "1") for name in ("one", "two", "gone")]
    locked = [locked_as(path) for path in wheels]
    wheels[2].unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    store = BlobStore(tmp_path / "cache")

    (error,) = fetch_wheels(locked, Python(version="3.13", glibc=40), store, lambda _: None)

    assert error.code == "artefact_gone"
    assert "gone 1" in error.detail
    assert [store.has(one.sha256, one.size_bytes) for one in locked] == [True, True, False]


def locked_as(path: Path) -> Artefact:
    content = path.read_bytes()
    name, version = path.name.split("-")[:2]
    return Artefact(
        type="wheel", name=name, version=version, filename=path.name, source=f"pypi:{name}/{version}",
        size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), needed_by=("base",), licence="MIT",
    )  # fmt: skip
