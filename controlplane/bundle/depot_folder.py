"""The folder of a depot: bundles by digest, a link to the current one, and what is remembered of them."""

import contextlib
import fcntl
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.bundle.contents import MANIFEST, Carried, read_contents
from controlplane.bundle.memory import Memory
from controlplane.kit.errors import Conflict, Refused

JOURNAL = "import.log"


class DepotFolder:
    """Readers follow `current`, which always names a whole bundle. Writers hold the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.memory = Memory(path / "trust", path / JOURNAL)

    @property
    def current(self) -> Path | None:
        link = self.path / "current"
        return self.path / link.readlink() if link.is_symlink() else None

    def bundle(self, digest: str) -> Path:
        return self.path / digest

    def incoming(self, digest: str) -> Path:
        return self.path / f".incoming-{digest}"

    def bundles(self) -> list[Path]:
        """Return every whole bundle, the current one first: it is the likeliest to share files."""
        found = [path for path in self.path.iterdir() if path.is_dir() and re.fullmatch(r"[0-9a-f]{64}", path.name)]
        return sorted(found, key=lambda path: (path != self.current, path.name))

    def known_files(self) -> dict[tuple[str, int], Path]:
        """Return where each content lies already, by (SHA-256, size)."""
        known: dict[tuple[str, int], Path] = {}
        for bundle in self.bundles():
            for file in files_of(bundle):
                known.setdefault((file.sha256, file.size_bytes), bundle / file.path)
        return known

    def put_in_place(self, fresh: Path, digest: str) -> None:
        """Move a whole bundle to its place; a damaged one that stands there goes."""
        target, aside = self.bundle(digest), self.path / f".damaged-{digest}"
        if target.exists():
            target.rename(aside)
        fresh.rename(target)
        shutil.rmtree(aside, ignore_errors=True)

    def make_current(self, digest: str) -> None:
        """Point the link at a bundle in one step, and keep only the one before."""
        before = self.current
        fresh = self.path / ".current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(digest)
        fresh.rename(self.path / "current")
        keep = {digest, before.name if before else digest}
        for bundle in self.bundles():
            if bundle.name not in keep:
                shutil.rmtree(bundle, ignore_errors=True)

    def clean(self) -> None:
        """Remove what an import left that was stopped, and finish a repair that was."""
        for damaged in self.path.glob(".damaged-*"):
            target = self.bundle(damaged.name.removeprefix(".damaged-"))
            if target.exists():
                shutil.rmtree(damaged)
            else:
                damaged.rename(target)
        for left in self.path.glob(".incoming-*"):
            shutil.rmtree(left)
        (self.path / ".current.new").unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one import at a time through; raises Conflict while another runs."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"another import into {self.path} is running", remedy="wait for it to end, then repeat"
                ) from None
            yield


def files_of(bundle: Path) -> tuple[Carried, ...]:
    """Return the files that a bundle of the depot lists; one that cannot be read lists none."""
    with contextlib.suppress(OSError, Refused):
        return read_contents((bundle / MANIFEST).read_bytes()).files
    return ()
