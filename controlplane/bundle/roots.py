"""Make, rotate and sign trust roots and bundles: what people do with their private keys, from files alone."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from controlplane.bundle.trust import (
    Root,
    Signature,
    SignedRoot,
    TrustKey,
    bundle_message,
    key_id,
    root_faults,
    root_message,
)
from controlplane.kit.crypto import sign
from controlplane.kit.errors import BadInput


def is_good_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """The signature check of every machine that has the product installed."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def trust_key(name: str, key: Ed25519PublicKey) -> TrustKey:
    """Return a key as a root lists it."""
    raw = raw_public(key)
    return TrustKey(key_id(raw), name, b64encode(raw).decode())


def raw_public(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def new_root(
    keys: Sequence[TrustKey], threshold: int, apt_keys: Sequence[str], *, expires_at: datetime, version: int = 1
) -> SignedRoot:
    """Return a root that nobody has signed yet."""
    root = Root(version, expires_at.replace(microsecond=0), threshold, tuple(keys), tuple(apt_keys))
    for fault in root_faults(root):
        raise BadInput(f"no trust root can be made: {fault}", remedy="correct --key, --threshold or --apt-key")
    return SignedRoot(root, ())


def add_root_signature(signed: SignedRoot, key: Ed25519PrivateKey, before: SignedRoot | None) -> SignedRoot:
    """Return a root with one signature more; signing twice changes nothing."""
    mine = key_id(raw_public(key.public_key()))
    known = {entry.id for root in (signed, before) if root for entry in root.root.keys}
    _require_known(mine, known)
    rest = tuple(entry for entry in signed.signatures if entry.key_id != mine)
    fresh = Signature(mine, sign(key, root_message(signed.root)))
    return replace(signed, signatures=tuple(sorted((*rest, fresh), key=lambda entry: entry.key_id)))


def add_bundle_signature(
    signatures: Sequence[Signature], key: Ed25519PrivateKey, digest: str, root: Root
) -> tuple[Signature, ...]:
    """Return the signatures of a bundle with one more; those that the root no longer knows stay."""
    mine = key_id(raw_public(key.public_key()))
    _require_known(mine, {entry.id for entry in root.keys})
    rest = tuple(entry for entry in signatures if entry.key_id != mine)
    fresh = Signature(mine, sign(key, bundle_message(digest)))
    return tuple(sorted((*rest, fresh), key=lambda entry: entry.key_id))


def counts(key: Ed25519PrivateKey, signed: SignedRoot) -> bool:
    """Tell whether a root lists this key."""
    return key_id(raw_public(key.public_key())) in {entry.id for entry in signed.root.keys}


def name_of(path: Path) -> str:
    """Return the name that a key goes by: that of its file."""
    return path.stem


def _require_known(mine: str, known: set[str]) -> None:
    if mine not in known:
        raise BadInput(
            f"key {mine} is not one of the root's: {', '.join(sorted(known))}",
            remedy="name the private key of a signer: --key FILE; `redoubt bundle trust show` lists them",
        )
