"""The disk that practice nodes start from: built once per recipe, kept unpacked so overlayfs can stand on it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypedDict, cast

from lab.places import PRACTICE, cache
from lab.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILD_TIMEOUT_S = 900


class Recipe(TypedDict):
    """The keys of node-image.toml."""

    suite: str
    variant: str
    components: list[str]
    packages: list[str]
    dpkg_options: list[str]
    apt_options: list[str]
    enable: list[str]
    mask: list[str]
    remove: list[str]


def build_image() -> Path:
    """Return the node image of the present recipe, building it when the cache has none."""
    recipe = read_recipe()
    home = cache() / "node-images"
    image = home / digest(recipe)
    home.mkdir(parents=True, exist_ok=True)
    with _one_builder(home):
        if not image.exists():
            _build(recipe, image)
    return image


def read_recipe() -> Recipe:
    """Read the recipe beside the practice sources."""
    # The file is part of this repository; a missing key fails loudly at its first use.
    return cast("Recipe", tomllib.loads((PRACTICE / "node-image.toml").read_text()))


def digest(recipe: Recipe) -> str:
    """Name an image by everything that goes into it."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def _one_builder(home: Path) -> Iterator[None]:
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, image: Path) -> None:
    for stale in image.parent.glob("building-*"):
        shutil.rmtree(stale)
    work = tempfile.mkdtemp(prefix="building-", dir=image.parent)
    root = image.parent / work / "root"
    run(*_bootstrap(recipe, root), timeout_s=BUILD_TIMEOUT_S)
    _finish(recipe, root)
    root.rename(image)
    image.parent.joinpath(work).rmdir()


def _bootstrap(recipe: Recipe, root: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--quiet",
        f"--variant={recipe['variant']}",
        f"--components={','.join(recipe['components'])}",
        f"--include={','.join(recipe['packages'])}",
        *(f"--dpkgopt={option}" for option in recipe["dpkg_options"]),
        *(f"--aptopt={option}" for option in recipe["apt_options"]),
        recipe["suite"],
        str(root),
    ]


def _finish(recipe: Recipe, root: Path) -> None:
    run("systemctl", f"--root={root}", "enable", *recipe["enable"])
    run("systemctl", f"--root={root}", "mask", *recipe["mask"])
    for pattern in recipe["remove"]:
        for path in root.glob(pattern):
            _remove(path)
    os.sync()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
