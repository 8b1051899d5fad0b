"""What a place remembers of the bundles it took: the newest trust root, and a journal. Standard library alone."""

import re
from pathlib import Path

from controlplane.bundle.journal import Journal
from controlplane.bundle.trust import SignedRoot, read_root, root_bytes
from controlplane.kit.errors import Refused

ROOT_FILE = re.compile(r"root\.([1-9]\d*)\.json")


def roots_in(folder: Path) -> list[SignedRoot]:
    """Return the trust roots that lie in a folder as root.<version>.json, oldest first."""
    paths = [path for path in folder.glob("root.*.json") if ROOT_FILE.fullmatch(path.name)]
    return sorted((read_root(path.read_bytes(), str(path)) for path in paths), key=lambda signed: signed.root.version)


class Memory:
    """The roots and the journal of one place; both only grow."""

    def __init__(self, roots: Path, journal: Path) -> None:
        self._roots = roots
        self.journal = Journal(journal)

    def roots(self) -> list[SignedRoot]:
        return roots_in(self._roots)

    def pinned(self, given: SignedRoot) -> SignedRoot:
        """Return the newest root known here; raises Refused when the one given is of another chain."""
        roots = self.roots()
        for known in roots:
            if known.root.version == given.root.version and known.digest != given.digest:
                raise Refused(
                    f"trust root {given.root.version} is not the one that was accepted here before",
                    remedy=f"name the root of this site; to start anew on purpose remove {self._roots}",
                    code="root_unknown",
                )
        return roots[-1] if roots else given

    def keep(self, root: SignedRoot) -> None:
        """Remember a root that was accepted."""
        path = self._roots / f"root.{root.root.version}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_bytes(root_bytes(root))
            fresh.rename(path)
