"""The cache of parts of a bundle: one folder per digest of its inputs, complete or absent."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class PartStore:
    """Folders that are made once and then only read. Several builds may share one store."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, kind: str, digest: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of a digest, calling `make` on an empty one if it is not there yet."""
        folder = self._root / kind / digest
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder.parent / f".{digest}.lock"):
            if not folder.is_dir():
                _fill(folder, make)
        return folder


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Let one process at a time through; the lock goes with the process."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def link_tree(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` without copying their bytes where the file system allows it."""
    shutil.copytree(source, target, copy_function=link_file, dirs_exist_ok=True)


def link_file(source: str | Path, target: str | Path) -> None:
    """Make `target` the same file as `source`, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
