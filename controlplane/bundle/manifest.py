"""The manifest of a bundle: every file with its digest, and one signature over all of it."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field, ValidationError

from controlplane.contracts.strict import Strict
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.crypto import is_signed_by, sign
from controlplane.kit.errors import Refused

MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class CarriedFile(Strict):
    """One file; `path` is relative to the bundle, with slashes."""

    path: str
    sha256: str = Sha256
    size_bytes: int = Field(ge=0)


class CarriedModel(Strict):
    """AI weights as the bundle carries them, at models/<sha256>/<file>."""

    name: str
    file: str
    sha256: str = Sha256
    size_bytes: int
    format: str
    licence: str
    context_tokens: int
    weights_bytes: int
    kv_bytes_per_token: int
    vocab_tokens: int


class Manifest(Strict):
    """`inputs` is the digest of everything the bundle was made from; `apt_key` is the armoured repository key."""

    format: int = 1
    inputs: str = Sha256
    suite: str
    apt_key: str
    features: tuple[str, ...]
    models: tuple[CarriedModel, ...]
    files: tuple[CarriedFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def to_bytes(manifest: Manifest) -> bytes:
    """Return the one byte form of a manifest; its SHA-256 is the digest of the bundle."""
    return canonical_json(manifest.model_dump(mode="json"))


def sign_manifest(key: Ed25519PrivateKey, raw: bytes) -> str:
    """Return the Ed25519 signature over the bundle's digest."""
    return sign(key, sha256_hex(raw).encode())


def trusted_manifest(raw: bytes, signature: str, key: Ed25519PublicKey) -> Manifest:
    """Return the manifest of these bytes; raises Refused when the signature or the shape is wrong."""
    if not is_signed_by(key, sha256_hex(raw).encode(), signature.strip()):
        raise Refused(
            f"{MANIFEST} is not signed by the expected key",
            remedy="carry the bundle in again, or name the key it was signed with: --key FILE",
            code="bundle_not_signed",
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise Refused(f"{MANIFEST} has an unknown shape: {error.errors()[0]['msg']}", remedy="build it again") from None
    if not all(is_inside(file.path) for file in manifest.files):
        raise Refused(f"{MANIFEST} names a path outside the bundle", remedy="build it again", code="bundle_path")
    return manifest


def is_inside(path: str) -> bool:
    """Tell whether a path of a bundle stays below it."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == path


def carry(root: Path, paths: Iterable[Path]) -> tuple[CarriedFile, ...]:
    """Digest files below `root` on all cores; the result is sorted by path."""
    with ThreadPoolExecutor() as pool:
        carried = list(pool.map(lambda path: _carried(root, path), paths))
    return tuple(sorted(carried, key=lambda file: file.path))


def digest_stream(stream: BinaryIO) -> tuple[str, int]:
    """Return (SHA-256 hex, size in bytes) of what is left in the stream."""
    digest, size_bytes = hashlib.sha256(), 0
    while block := stream.read(1 << 20):
        digest.update(block)
        size_bytes += len(block)
    return digest.hexdigest(), size_bytes


def _carried(root: Path, path: Path) -> CarriedFile:
    with path.open("rb") as stream:
        sha256, size_bytes = digest_stream(stream)
    return CarriedFile(path=path.relative_to(root).as_posix(), sha256=sha256, size_bytes=size_bytes)
