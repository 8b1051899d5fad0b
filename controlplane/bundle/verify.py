"""Verify a bundle, as a folder or as the tar that is carried in: every byte, before anything trusts it."""

import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from controlplane.bundle.manifest import MANIFEST, SIGNATURE, CarriedFile, Manifest, digest_stream, trusted_manifest
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput, Refused

Seen = tuple[str, tuple[str, int]]


@dataclass(frozen=True)
class Verified:
    """A bundle whose every byte is the one that was signed."""

    manifest: Manifest
    digest: str


def inspect_bundle(path: Path, key: Ed25519PublicKey) -> Verified:
    """Check the signature alone and return the manifest; raises BadInput or Refused."""
    with _opened(path) as source:
        raw, signature = source.head()
    return Verified(trusted_manifest(raw, signature, key), sha256_hex(raw))


def verify_bundle(path: Path, key: Ed25519PublicKey) -> Verified:
    """Check signature and every file; raises Refused that names each file that differs."""
    with _opened(path) as source:
        raw, signature = source.head()
        manifest = trusted_manifest(raw, signature, key)
        seen = dict(source.digests())
    faults = tuple(_faults(manifest.files, seen))
    if faults:
        raise Refused(
            f"{path.name}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""),
            remedy=f"carry the bundle in again, or build it anew; then repeat: redoubt bundle verify {path}",
            code="bundle_altered",
            reasons=faults,
        )
    return Verified(manifest, sha256_hex(raw))


def _faults(expected: tuple[CarriedFile, ...], seen: dict[str, tuple[str, int]]) -> Iterator[str]:
    for file in expected:
        found = seen.get(file.path)
        if found is None:
            yield f"{file.path} is missing"
        elif found[1] != file.size_bytes:
            yield f"{file.path} has {found[1]} bytes instead of {file.size_bytes}"
        elif found[0] != file.sha256:
            yield f"{file.path} is altered: its SHA-256 is {found[0][:16]}…, signed was {file.sha256[:16]}…"
    for path in sorted(set(seen) - {file.path for file in expected}):
        yield f"{path} is in the bundle and not in its manifest"


@contextmanager
def _opened(path: Path) -> Iterator["_Folder | _Archive"]:
    if path.is_dir():
        yield _Folder(path)
    elif path.is_file():
        try:
            with tarfile.open(path, "r:") as tar:
                yield _Archive(tar)
        except tarfile.TarError as error:
            raise Refused(f"{path.name} is not a whole tar: {error}", remedy="carry the bundle in again") from None
    else:
        raise BadInput(f"{path} does not exist", remedy="build it: redoubt bundle build --out FOLDER")


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def head(self) -> tuple[bytes, str]:
        try:
            return (self._root / MANIFEST).read_bytes(), (self._root / SIGNATURE).read_text()
        except FileNotFoundError as error:
            name = Path(str(error.filename)).name
            raise BadInput(f"{self._root} has no {name}", remedy="name the folder of a bundle") from None

    def digests(self) -> Iterator[Seen]:
        own = {self._root / MANIFEST, self._root / SIGNATURE}
        files = [path for path in self._root.rglob("*") if not path.is_dir() and path not in own]
        with ThreadPoolExecutor() as pool:
            yield from pool.map(self._digest, files)

    def _digest(self, path: Path) -> Seen:
        name = path.relative_to(self._root).as_posix()
        if path.is_symlink():
            return name, ("a symbolic link", -1)
        with path.open("rb") as stream:
            return name, digest_stream(stream)


class _Archive:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def head(self) -> tuple[bytes, str]:
        first, second = self._tar.next(), self._tar.next()
        if first is None or second is None or (first.name, second.name) != (MANIFEST, SIGNATURE):
            raise BadInput(f"the tar does not start with {MANIFEST}", remedy="name the .tar that the build made")
        return self._stream(first).read(), self._stream(second).read().decode(errors="replace")

    def digests(self) -> Iterator[Seen]:
        while member := self._tar.next():
            yield member.name, digest_stream(self._stream(member)) if member.isreg() else ("not a plain file", -1)

    def _stream(self, member: tarfile.TarInfo) -> BinaryIO:
        stream = self._tar.extractfile(member)
        if stream is None:
            raise Refused(f"{member.name} is not a plain file", remedy="carry the bundle in again")
        return stream  # type: ignore[return-value]  # typeshed says IO[bytes], which BinaryIO is
