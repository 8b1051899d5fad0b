"""A private directory for one run's socket, gone with the run, however the run ended."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "redoubt-run-"


@contextmanager
def private_directory(parent: Path) -> Iterator[Path]:
    """Make a directory that only this user can enter; remove those that killed runs left behind."""
    for old in parent.glob(f"{PREFIX}*"):
        _remove_if_abandoned(old)
    made, held = _make_held(parent)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(held)


def _make_held(parent: Path) -> tuple[Path, int]:
    while True:
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        held = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
        if made.exists():
            return made, held
        os.close(held)  # another run swept it before it was held


def _remove_if_abandoned(old: Path) -> None:
    with suppress(OSError):  # another user's, still held, or removed by another run meanwhile
        held = os.open(old, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(held).st_uid == os.geteuid():
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            os.close(held)
