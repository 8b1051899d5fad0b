"""The store of what bundles are made of: files by digest, complete or absent."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from controlplane.bundle.download import Advance, Download, download


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


class BlobStore:
    """Files by digest, whole or absent. What a run that was killed left over is where the next one goes on."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / "partial"

    def path(self, sha256: str) -> Path:
        """Return where the file of a digest stands, or would."""
        return self._root / "blobs" / "sha256" / sha256[:2] / sha256

    def has(self, sha256: str, size_bytes: int) -> bool:
        """Tell whether the file of a digest is here; its bytes are read when a bundle is built of it."""
        path = self.path(sha256)
        return path.is_file() and path.stat().st_size == size_bytes

    def fetch(self, wanted: Download, advance: Advance = lambda _: None) -> Path:
        """Return the file, downloading it if it is not here; the caller holds the store's lock."""
        if not self.has(wanted.sha256, wanted.size_bytes):
            self._partial.mkdir(parents=True, exist_ok=True)
            partial = self._partial / wanted.sha256
            download(wanted, partial, advance)
            self._keep(partial, wanted.sha256)
        return self.path(wanted.sha256)

    def add(self, source: Path) -> str:
        """Take a file in and return its digest; the file itself stays where it is."""
        with source.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if not self.has(sha256, source.stat().st_size):
            self._partial.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self._partial)) / sha256
            shutil.copyfile(source, partial)
            self._keep(partial, sha256)
            partial.parent.rmdir()
        return sha256

    def link(self, sha256: str, target: Path) -> None:
        """Make `target` the file of a digest, without copying where the file system allows it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        link_file(self.path(sha256), target)

    def drop(self, sha256: str) -> None:
        """Forget a file, because it is not what its name says."""
        self.path(sha256).unlink(missing_ok=True)

    def lock(self) -> AbstractContextManager[None]:
        """Let one process at a time bring files in."""
        self._root.mkdir(parents=True, exist_ok=True)
        return alone(self._root / ".fetch.lock")

    def _keep(self, partial: Path, sha256: str) -> None:
        path = self.path(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.chmod(0o444)  # bundles share these bytes by hard links
        partial.replace(path)


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
