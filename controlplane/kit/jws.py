"""JSON Web Signatures (RFC 7515) with one algorithm: Ed25519 (RFC 8037), by keys of our own set.

Written out because the choice of algorithm and key is where such libraries fail: here a token chooses nothing.
"""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any  # claims are JSON

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LONGEST = 8192  # characters; looked at before anything is decoded
ALGORITHMS = frozenset({"EdDSA", "Ed25519"})  # two names of one algorithm: RFC 8037 and RFC 9864
HEADER = frozenset({"alg", "kid", "typ"})


class NotSigned(Exception):
    """The token is not one of ours; the message says why and holds nothing of it."""


def sign_jwt(key: Ed25519PrivateKey, kid: str, claims: Mapping[str, object]) -> str:
    """Return the compact form of `claims`, signed."""
    header = {"alg": "EdDSA", "kid": kid, "typ": "JWT"}
    signed = f"{_encode_json(header)}.{_encode_json(claims)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


def read_jwt(token: str, keys: Mapping[str, Ed25519PublicKey]) -> dict[str, Any]:
    """Return the claims of a token that one of `keys` signed; times are the caller's to judge. Raises NotSigned."""
    if len(token) > LONGEST:
        raise NotSigned("longer than any token of ours")
    header, claims, signature = _split(token)
    key = _choose_key(_decode_json(header), keys)
    try:
        key.verify(_decode(signature), f"{header}.{claims}".encode())
    except InvalidSignature:
        raise NotSigned("the signature is wrong") from None
    return _decode_json(claims)


def peek_claim(token: str, name: str) -> str:
    """Return one claim of a token that nobody has checked yet, to find the keys that may check it; "" without it."""
    if len(token) > LONGEST:
        raise NotSigned("longer than any token of ours")
    value = _decode_json(_split(token)[1]).get(name)
    return value if isinstance(value, str) else ""


def public_jwk(key: Ed25519PublicKey, kid: str) -> dict[str, str]:
    """Return the key as RFC 8037 writes it."""
    x = encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


def key_of_jwk(jwk: Mapping[str, object]) -> Ed25519PublicKey:
    """Read a public key; raises NotSigned for every other kind, and for one that holds its private part."""
    if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519") or "d" in jwk:
        raise NotSigned("not a public Ed25519 key")
    try:
        return Ed25519PublicKey.from_public_bytes(_decode(str(jwk.get("x", ""))))
    except ValueError:
        raise NotSigned("not an Ed25519 key of 32 bytes") from None


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _split(token: str) -> tuple[str, str, str]:
    parts = token.split(".")
    if len(parts) != 3:
        raise NotSigned("not three parts")
    return parts[0], parts[1], parts[2]


def _choose_key(header: dict[str, Any], keys: Mapping[str, Ed25519PublicKey]) -> Ed25519PublicKey:
    """Take the key from our own set; a header that brings a key or names where to fetch one is refused whole."""
    if not HEADER.issuperset(header):
        raise NotSigned("its header has fields that are never read")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise NotSigned("another algorithm than Ed25519")
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    if not isinstance(kid, str) or kid not in keys:
        raise NotSigned("no key of that name")
    return keys[kid]


def _encode_json(value: Mapping[str, object]) -> str:
    return encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _decode_json(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise NotSigned("not JSON") from None
    if not isinstance(value, dict):
        raise NotSigned("not a JSON object")
    return value


def _refuse_constant(word: str) -> None:
    """NaN and Infinity are no JSON, and every comparison with NaN is false."""
    raise ValueError(word)


def _decode(part: str) -> bytes:
    if "=" in part or not part.isascii():
        raise NotSigned("not base64url")
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise NotSigned("not base64url") from None
