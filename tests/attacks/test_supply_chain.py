"""LiteLLM 1.82.7 and 1.82.8: a wheel with a `.pth` file, which Python runs at every start."""

import importlib.metadata
import zipfile
from pathlib import Path

import pytest

from controlplane.bundle.wheels import STARTUP, normal, read_pins, refuse_startup_code
from controlplane.kit.errors import Refused
from tests.support.source import ROOT
from tests.support.wheels import fake_wheel


@pytest.mark.parametrize(
    "name",
    [
        "stealer.pth",
        "sitecustomize.py",
        "usercustomize.py",
        "sitecustomize/__init__.py",
        "some_tool-1.0.data/purelib/stealer.pth",
        "some_tool-1.0.data/platlib/stealer.pth",
        "some_tool-1.0.data/purelib/sitecustomize.py",
        "some_tool-1.0.data/data/lib/python3.11/site-packages/stealer.pth",
    ],
)
def test_a_wheel_with_code_that_runs_at_every_start_is_not_built_into_a_bundle(tmp_path: Path, name: str):
    wheel = fake_wheel(tmp_path, "some-tool", "1.0")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(name, "import os")
    with pytest.raises(Refused, match="whenever Python starts"):
        refuse_startup_code(wheel)


@pytest.mark.parametrize("name", ["model.pth.md", "weights/model.pth", "some_tool/customize.py", "sitecustomizer.py"])
def test_other_files_that_look_a_little_like_it_are_let_through(tmp_path: Path, name: str):
    wheel = fake_wheel(tmp_path, "some-tool", "1.0")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(name, "")
    refuse_startup_code(wheel)


def test_no_package_that_a_node_gets_brings_such_a_file():
    pinned = {normal(pin.name) for pin in read_pins(ROOT / "locks/node.lock")}
    found = [
        f"{installed.name}: {file}"
        for installed in importlib.metadata.distributions()
        if normal(installed.name) in pinned
        for file in installed.files or ()
        if STARTUP.search(str(file))
    ]
    assert found == []
