"""OpenPGP text armour (RFC 9580, 6) as bytes in and bytes out: nothing in a clear-signed file is left unchecked."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from controlplane.kit.errors import Refused

CRC24_INIT, CRC24_POLYNOMIAL = 0xB704CE, 0x1864CFB
BLOCK = re.compile(
    r"-----BEGIN PGP ([A-Z ]+)-----\n(?:\w+: .*\n)*\n((?:[A-Za-z0-9+/=]+\n)+?)(?:=.{4}\n)?-----END PGP \1-----"
)
LINE = 64


def armoured(kind: str, raw: bytes) -> str:
    """Return the armour of binary packets, as gpg writes it."""
    text = b64encode(raw).decode()
    lines = "".join(f"{text[start : start + LINE]}\n" for start in range(0, len(text), LINE))
    crc = b64encode(_crc24(raw).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP {kind}-----\n\n{lines}={crc}\n-----END PGP {kind}-----\n"


def one_block(blocks: Iterable[str]) -> str:
    """Return several armoured public keys as one block, which is all that a package source may embed."""
    raw = b"".join(b64decode(found[2]) for block in blocks for found in BLOCK.finditer(block))
    return armoured("PUBLIC KEY BLOCK", raw)


def clear_signed(text: bytes, signature: bytes, hash_name: str) -> bytes:
    """Return the clear-signed form of a text with a detached binary signature."""
    escaped = re.sub(rb"(?m)^-", b"- -", text)
    head = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: {hash_name}\n\n".encode()
    return head + escaped + (b"" if escaped.endswith(b"\n") else b"\n") + armoured("SIGNATURE", signature).encode()


def require_same_text(text: bytes, signed: bytes, name: str) -> None:
    """Raises Refused unless `signed` is a clear-signed form of exactly this text and nothing more."""
    words = signed.decode("ascii", errors="replace")
    block = BLOCK.search(words, words.rfind("-----BEGIN PGP SIGNATURE"))
    hashed = re.match(r"-----BEGIN PGP SIGNED MESSAGE-----\nHash: (SHA256|SHA384|SHA512)\n", words)
    if block and hashed and clear_signed(text, _decoded(block[2]), hashed[1]) == signed:
        return
    raise Refused(
        f"{name} is altered: it is not the signed form of the Release file that the manifest names",
        remedy="carry the bundle in again, or have the repository signed again: redoubt bundle build",
        code="bundle_altered",
        reasons=(f"{name} is altered",),
    )


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""


def _crc24(raw: bytes) -> int:
    crc = CRC24_INIT
    for byte in raw:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= CRC24_POLYNOMIAL
    return crc
