"""The package repository of a bundle: plain files, and indexes whose bytes follow from the packages and the lock alone.

No compressor has a say in them: two versions of one may give different bytes, and the depot is near its nodes.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path

from controlplane.bundle.deb import control_stanza
from controlplane.bundle.lock import Artefact, Lock
from controlplane.bundle.relations import parse_stanza
from controlplane.bundle.store import BlobStore
from controlplane.kit.errors import Refused

REPOSITORY_SUITE = "redoubt"
LAYOUT = ("Filename", "Size", "SHA256")


def write_repository(target: Path, lock: Lock, store: BlobStore) -> Path:
    """Make `pool/` and `dists/` of the lock's packages below `target`; return Release, which is not signed yet."""
    debs = sorted(lock.of("deb"), key=lambda deb: (deb.name, deb.version))
    for deb in debs:
        store.link(deb.sha256, target / "pool" / deb.filename)
    with ThreadPoolExecutor() as pool:
        stanzas = list(pool.map(lambda deb: _stanza(deb, store.path(deb.sha256)), debs))
    suite = target / "dists" / REPOSITORY_SUITE
    index = suite / "main" / f"binary-{lock.distribution.architecture}" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_text("\n".join(stanzas))
    release = suite / "Release"
    release.write_text(_release(index, suite, lock.created_at, lock.distribution.architecture))
    return release


def _stanza(deb: Artefact, path: Path) -> str:
    """Return the package's own stanza with where its file lies; raises Refused when it is another package."""
    text = control_stanza(path)
    fields = parse_stanza(text)
    if (fields.get("Package"), fields.get("Version")) != (deb.name, deb.version):
        raise Refused(
            f"{deb.filename} is {fields.get('Package')} {fields.get('Version')}, not {deb.name} {deb.version}",
            remedy="lock anew: redoubt bundle lock",
            code="deb_broken",
        )
    where = (f"pool/{deb.filename}", str(deb.size_bytes), deb.sha256)
    return text + "".join(f"{field}: {value}\n" for field, value in zip(LAYOUT, where, strict=True))


def _release(index: Path, suite: Path, created_at: datetime, architecture: str) -> str:
    content = index.read_bytes()
    listed = f" {hashlib.sha256(content).hexdigest()} {len(content)} {index.relative_to(suite).as_posix()}\n"
    head = {
        "Origin": "Redoubt",
        "Label": "Redoubt",
        "Suite": REPOSITORY_SUITE,
        "Codename": REPOSITORY_SUITE,
        "Date": format_datetime(created_at).replace("+0000", "UTC"),
        "Architectures": architecture,
        "Components": "main",
    }
    return "".join(f"{field}: {value}\n" for field, value in head.items()) + "SHA256:\n" + listed
