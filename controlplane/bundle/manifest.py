"""The manifest of a bundle: what it is, and every file with its digest. Signatures stand beside it."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Strict
from controlplane.kit.canonical import canonical_json

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class CarriedFile(Strict):
    """One file; `path` is relative to the bundle, with slashes."""

    path: str
    sha256: str = Sha256
    size_bytes: int = Field(ge=0)


class CarriedModel(Strict):
    """AI weights as the bundle carries them, at models/<sha256>/<file>; `files` are all others of the model, beside it.

    `file` is what a server opens: the weights, or the index of their shards. `origin` says where they come from,
    `residency` the label of the data that they may be used with.
    """

    name: str
    file: str
    sha256: str = Sha256
    size_bytes: int
    format: Literal["gguf", "safetensors"]
    licence: str = Field(min_length=1)
    origin: str = Field(min_length=1)
    residency: str = Field(min_length=1)
    context_tokens: int
    weights_bytes: int
    kv_bytes_per_token: int
    vocab_tokens: int
    files: tuple[CarriedFile, ...] = ()


class Manifest(Strict):
    """What a bundle is and holds. Nothing in it depends on who signs: its SHA-256 is the digest of the bundle.

    `lock` is the SHA-256 of lock.json, `floor` the lowest serial that may still be installed after this one.
    """

    format: Literal[2] = 2
    product: str = "redoubt"
    version: str
    serial: int = Field(ge=1)
    floor: int = Field(ge=1)
    created_at: AwareDatetime
    expires_at: AwareDatetime
    suite: str
    architecture: str
    lock: str = Sha256
    features: tuple[str, ...]
    models: tuple[CarriedModel, ...]
    files: tuple[CarriedFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def to_bytes(manifest: Manifest) -> bytes:
    """Return the one byte form of a manifest; its SHA-256 is the digest of the bundle."""
    return canonical_json(manifest.model_dump(mode="json"))


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
