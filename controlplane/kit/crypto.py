"""Signatures, tokens and the short-lived certificate of one run."""

import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from controlplane.kit.clock import SystemClock


def new_token(prefix: str) -> str:
    """Return a bearer secret of 256 bits that scanners recognise by its prefix."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def new_signing_key_pem() -> bytes:
    """Return a new Ed25519 private key, PKCS #8 PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key; raises TypeError when the file holds another kind."""
    key = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} holds no Ed25519 private key")
    return key


def load_verify_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key; raises TypeError when the file holds another kind."""
    key = load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError(f"{path} holds no Ed25519 public key")
    return key


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def derived_secret(key: Ed25519PrivateKey, purpose: bytes) -> bytes:
    """Return 32 secret bytes that are the key's own for this purpose (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose).derive(key.private_bytes_raw())


def sign(key: Ed25519PrivateKey, data: bytes) -> str:
    """Return the base64 Ed25519 signature (RFC 8032)."""
    return b64encode(key.sign(data)).decode()


def is_signed_by(key: Ed25519PublicKey, data: bytes, signature: str) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), data)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(key: bytes, data: bytes, context: bytes) -> bytes:
    """Encrypt under a 256-bit key (AES-GCM, nonce in front); `context` must be the same when it is opened."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, data, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Decrypt what `seal` made; raises cryptography's InvalidTag for anything else."""
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], context)


@dataclass(frozen=True)
class SelfSigned:
    """A key and the certificate that the other side pins."""

    key_pem: bytes
    certificate_pem: bytes


def self_signed(common_name: str, *, days: int = 30) -> SelfSigned:
    """Make an ECDSA P-256 certificate that is its own trust anchor."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    start = SystemClock().now() - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SelfSigned(pem, certificate.public_bytes(Encoding.PEM))


def derive_signing_key(root: Ed25519PrivateKey, name: str) -> Ed25519PrivateKey:
    """Return the key that `root` has for `name` (HKDF, RFC 5869): many keys, one secret on the disk."""
    secret = root.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    seed = HKDF(hashes.SHA256(), 32, salt=None, info=name.encode()).derive(secret)
    return Ed25519PrivateKey.from_private_bytes(seed)
