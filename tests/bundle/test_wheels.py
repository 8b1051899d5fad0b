"""The index of wheels is plain files that pip reads, and every pin carries its hash."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from controlplane.bundle.wheels import build_project, write_index


def test_pip_installs_from_the_index_by_hash(tmp_path):
    wheel = fake_wheel(tmp_path / "files", "Some.Tool", "1.0")
    write_index(tmp_path, [wheel])
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()

    done = pip_download(tmp_path, f"some-tool==1.0 --hash=sha256:{digest}")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got" / wheel.name).read_bytes() == wheel.read_bytes()


def test_pip_refuses_a_wheel_that_was_altered_after_it_was_indexed(tmp_path):
    wheel = fake_wheel(tmp_path / "files", "Some.Tool", "1.0")
    write_index(tmp_path, [wheel])
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    fake_wheel(tmp_path / "files", "Some.Tool", "1.0", content="print('rogue')")

    done = pip_download(tmp_path, f"some-tool==1.0 --hash=sha256:{digest}")

    assert done.returncode != 0


@pytest.mark.slow
def test_the_project_builds_to_the_same_bytes_twice(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        build_project(tmp_path / folder, Path.cwd())

    one, two = (next((tmp_path / folder).glob("redoubt-*.whl")) for folder in ("one", "two"))

    assert one.read_bytes() == two.read_bytes()


def fake_wheel(folder: Path, name: str, version: str, content: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    stem = f"{name.replace('.', '_').lower()}-{version}"
    wheel = folder / f"{stem}-py3-none-any.whl"
    info = f"{stem}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_tool.py", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


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
