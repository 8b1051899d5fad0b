"""Unpack a bundle on the depot: checked against its manifest while it is read, current only when it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: bundle_unpacked
short_description: A bundle unpacked below a folder, and made the current one
description:
  - The digest of the manifest comes from the inventory; every file must match the manifest.
  - The bundle before stays current until the new one is whole, and is kept beside it.
options:
  archive:
    description: The tar of the bundle; removed when it is unpacked.
    type: path
    required: true
  digest:
    description: Digest of the bundle.
    type: str
    required: true
  folder:
    description: Where bundles lie, each below its digest, with a link C(current).
    type: path
    required: true
author: Redoubt
"""

MANIFEST = "bundle.json"
BESIDE = ("trust/", "apt/dists/redoubt/InRelease")


class Altered(Exception):
    """The archive is not the bundle that was signed."""


def unpack(archive: Path, digest: str, target: Path) -> None:
    """Write every file of the manifest below `target`; raises Altered at the first that differs."""
    with tarfile.open(archive, "r:") as tar:
        expected = manifest_of(tar, digest, target)
        while member := tar.next():
            wanted = expected.pop(member.name, None)
            if member.name.startswith(BESIDE) and ".." not in Path(member.name).parts and member.isreg():
                write(tar, member, target / member.name)
                continue
            if wanted is None or not member.isreg():
                raise Altered(f"{member.name} is in the bundle and not in its manifest")
            if write(tar, member, target / member.name) != wanted:
                raise Altered(f"{member.name} does not have the signed digest")
    if expected:
        raise Altered(f"{min(expected)} is missing")


def manifest_of(tar: tarfile.TarFile, digest: str, target: Path) -> dict[str, str]:
    """Read the head of the archive; return digests by path."""
    member = tar.next()
    if member is None or member.name != MANIFEST or not member.isreg():
        raise Altered(f"the archive does not start with {MANIFEST}")
    if write(tar, member, target / MANIFEST) != digest:
        raise Altered(f"{MANIFEST} is not the one that the inventory was rendered with")
    files = json.loads((target / MANIFEST).read_bytes())["files"]
    return {file["path"]: file["sha256"] for file in files if ".." not in Path(file["path"]).parts}


def write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    """Write one member and return its SHA-256."""
    stream, digest = tar.extractfile(member), hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        while stream is not None and (block := stream.read(1 << 20)):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def take_in(module: AnsibleModule, archive: Path, digest: str, target: Path) -> None:
    """Unpack beside the target, then move it there in one step."""
    fresh = target.with_name(f".{digest}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        unpack(archive, digest, fresh)
    except (Altered, tarfile.TarError, OSError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        archive.unlink(missing_ok=True)
        module.fail_json(
            msg=f"The bundle was altered on its way in: {error}. The depot still serves the one before. "
            "Carry it in again: redoubt site apply"
        )
    for path in [fresh, *fresh.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    fresh.rename(target)


def make_current(folder: Path, digest: str) -> None:
    """Point the link at the bundle in one step, and keep only the one before."""
    link, fresh = folder / "current", folder / ".current.new"
    before = link.readlink().name if link.is_symlink() else digest
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(digest)
    fresh.rename(link)
    for other in folder.iterdir():
        if other.is_dir() and not other.is_symlink() and other.name not in (digest, before):
            shutil.rmtree(other)


def main() -> None:
    """Take the bundle in if it is not there, and make it current."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "digest": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    digest, folder = module.params["digest"], Path(module.params["folder"])
    archive, target = Path(module.params["archive"]), folder / digest
    link = folder / "current"
    if target.is_dir() and link.is_symlink() and link.readlink().name == digest:
        module.exit_json(changed=False)
    if not module.check_mode:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.is_dir():
            take_in(module, archive, digest, target)
        archive.unlink(missing_ok=True)
        make_current(folder, digest)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
