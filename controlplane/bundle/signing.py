"""Add one person's signature to a bundle that is built: the folder, the tar, or both; nothing else in them moves."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.bundle.archive import Head, folder_head, head_bytes, require_no_parts, tar_head, trust_part
from controlplane.bundle.contents import SIGNATURES, TRUST, root_path
from controlplane.bundle.reader import opened
from controlplane.bundle.roots import add_bundle_signature, counts
from controlplane.bundle.trust import (
    Signature,
    SignedRoot,
    read_root,
    read_signatures,
    root_bytes,
    signatures_bytes,
)
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput


@dataclass(frozen=True)
class Signed:
    """How a bundle stands after a signature was added."""

    digest: str
    signatures: tuple[Signature, ...]
    root: SignedRoot


def sign_bundle(path: Path, key: Ed25519PrivateKey, roots: Sequence[SignedRoot] = ()) -> Signed:
    """Sign a bundle with one key, and give it the roots that it lacks; the folder beside a tar is signed along."""
    targets = [target for target in _forms(path) if target.exists()]
    if not targets:
        raise BadInput(f"{path} does not exist", remedy="build it: redoubt bundle build --out FOLDER")
    signed = [_sign(target, key, roots) for target in targets]
    return signed[0]


def _forms(path: Path) -> list[Path]:
    """Return the path, and the other form of the same bundle when it stands beside it."""
    other = path.with_suffix("") if path.suffix == ".tar" else path.with_name(f"{path.name}.tar")
    same = other.exists() and path.exists() and _read(other).manifest == _read(path).manifest
    return [path, other] if same else [path]


def _sign(target: Path, key: Ed25519PrivateKey, roots: Sequence[SignedRoot]) -> Signed:
    head = _read(target)
    trust, signed = signed_trust(head, key, roots)
    if target.is_dir():
        write_trust(target, trust)
    else:
        _rewrite(target, replace(head, trust=trust), head)
    return signed


def signed_trust(head: Head, key: Ed25519PrivateKey, roots: Sequence[SignedRoot]) -> tuple[dict[str, bytes], Signed]:
    """Return the files of trust/ with one signature more."""
    trust = {**head.trust, **{root_path(signed.root.version): root_bytes(signed) for signed in roots}}
    chain = [read_root(raw, name) for name, raw in trust.items() if name != SIGNATURES]
    if not chain:
        raise BadInput("the bundle carries no trust root", remedy="name one: --root ROOT.json")
    newest = max(chain, key=lambda signed: signed.root.version)
    before = read_signatures(trust[SIGNATURES], SIGNATURES) if SIGNATURES in trust else ()
    digest = sha256_hex(head.manifest)
    signatures = add_bundle_signature(before, key, digest, newest.root)
    return {**trust, SIGNATURES: signatures_bytes(signatures)}, Signed(digest, signatures, newest)


def first_trust(head: Head, key: Ed25519PrivateKey, roots: Sequence[SignedRoot]) -> dict[str, bytes]:
    """Return trust/ of a bundle just built: signed by its builder where the newest root lists the builder's key."""
    if counts(key, roots[-1]):
        return signed_trust(head, key, roots)[0]
    return {SIGNATURES: signatures_bytes(()), **{root_path(root.root.version): root_bytes(root) for root in roots}}


def write_trust(folder: Path, trust: Mapping[str, bytes]) -> None:
    """Write trust/ of a bundle, each file in one step."""
    (folder / TRUST).mkdir(exist_ok=True)
    for name, content in trust.items():
        fresh = folder / f"{name}.new"
        fresh.write_bytes(content)
        fresh.rename(folder / name)


def _read(path: Path) -> Head:
    if path.is_dir():
        return folder_head(path)
    require_no_parts(path)
    with opened([path]) as tar:
        return tar_head(tar, path.name)


def _rewrite(tar: Path, head: Head, before: Head) -> None:
    if len(trust_part(head.trust)) != len(trust_part(before.trust)):
        raise BadInput(
            f"{tar.name} has no room for more signatures",
            remedy="sign the folder of the bundle and pack it anew: redoubt bundle build",
        )
    handle = os.open(tar, os.O_WRONLY)
    try:
        os.pwrite(handle, head_bytes(head), 0)
        os.fsync(handle)
    finally:
        os.close(handle)
