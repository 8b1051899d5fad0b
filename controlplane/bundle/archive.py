"""The tar that carries a bundle in."""

import os
import tarfile
from pathlib import Path

from controlplane.bundle.manifest import MANIFEST, SIGNATURE


def pack_bundle(folder: Path, archive: Path) -> Path:
    """Write the one tar of a bundle, the same bytes for the same folder."""
    # The manifest goes first: whoever reads the stream knows what to expect before the first file comes.
    head = [folder / MANIFEST, folder / SIGNATURE]
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in [*head, *(path for path in files_below(folder) if path not in head)]:
            tar.add(path, arcname=path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
    return archive


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    member.type = tarfile.REGTYPE
    return member


def files_below(folder: Path) -> list[Path]:
    """Return every file of a folder, sorted."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
