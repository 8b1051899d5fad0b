"""One change to a site at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from lab.places import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def take_turn(site: str) -> Iterator[None]:
    """Wait until nobody else changes the site, and keep others waiting meanwhile."""
    path = _path(site)
    RUN.mkdir(parents=True, exist_ok=True)
    held = path.open("w")
    while not _hold(held, path):  # the holder before us took the site down, and the file with it
        held.close()
        held = path.open("w")
    with held:
        yield


def forget_turn(site: str) -> None:
    """Remove the file that others wait on; call it while it is held."""
    _path(site).unlink(missing_ok=True)


def _path(site: str) -> Path:
    return RUN / f"{site}.lock"


def _hold(held: IO[str], path: Path) -> bool:
    fcntl.flock(held, fcntl.LOCK_EX)
    return path.exists() and path.stat().st_ino == os.fstat(held.fileno()).st_ino
