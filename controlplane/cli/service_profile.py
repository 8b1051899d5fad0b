"""The profile of a service: a private key that never leaves this machine, and how it signs in."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from controlplane.cli.session import Profile
from controlplane.contracts import oauth
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import load_signing_key, load_verify_key, new_signing_key_pem
from controlplane.kit.errors import BadInput, Conflict
from controlplane.kit.jws import public_jwk


@dataclass(frozen=True)
class KeptKey:
    path: Path
    public: oauth.PublicKey


def make_key(path: Path) -> KeptKey:
    """Write a new private key for its owner alone; raises Conflict rather than write over one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Conflict(f"{path} is there already", remedy="give another --key-file, or move it away") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(new_signing_key_pem())
    return KeptKey(path.resolve(), _to_public(load_signing_key(path).public_key()))


def public_key_of(path: Path) -> oauth.PublicKey:
    """Read the public half of a key."""
    try:
        return _to_public(load_verify_key(path))
    except (TypeError, ValueError):
        raise BadInput(f"{path} holds no public Ed25519 key", remedy="openssl pkey -in KEY -pubout") from None


def new_profile(own: Profile, made: oauth.Client, kept: KeptKey) -> Profile:
    """Return the profile of a service that was just made: the site as we know it, and its own way in."""
    return replace(
        own,
        token="",
        refresh="",
        expires_at="",
        ends_at="",
        name=made.name,
        client=made.id,
        key_file=str(kept.path),
        key_id=kept.public.kid,
    )


def _to_public(key: Ed25519PublicKey) -> oauth.PublicKey:
    """A key is named by its own digest, so that its next one has another name."""
    x = public_jwk(key, "")["x"]
    return oauth.PublicKey(x=x, kid=sha256_hex(x.encode())[:16])
