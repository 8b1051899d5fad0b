"""Signed notes, checkpoints, cosignatures and proofs as C2SP writes them; Ed25519 only.

The specifications: signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof. Who reads them with the standard library
alone is controlplane.verifier.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LOG_KEY = 0x01  # a plain Ed25519 signature over the note
WITNESS_KEY = 0x04  # a cosignature with its time
PROOF_HEADING = "c2sp.org/tlog-proof@v1"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


class BadNote(ValueError):
    """The text is no note, or not one of the form that was expected."""


@dataclass(frozen=True)
class VerifierKey:
    """Whose signature is believed: a name, what the key signs, and its 32 bytes."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(bytes([self.kind]) + self.public).decode()}"


@dataclass(frozen=True)
class Signature:
    """One signature line: who, the key's id, and the bytes."""

    name: str
    key_id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True)
class Note:
    """`body` ends with a line feed and is what signatures are about."""

    body: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.body}\n{''.join(map(str, self.signatures))}"


@dataclass(frozen=True)
class Checkpoint:
    """A log's state: `size` leaves under `root`."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def verifier_key(name: str, key: Ed25519PrivateKey, kind: int = LOG_KEY) -> VerifierKey:
    return VerifierKey(name, kind, key.public_key().public_bytes_raw())


def parse_key(text: str) -> VerifierKey:
    """Read `<name>+<id>+<key>`; raises BadNote."""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = _decode(encoded)
    if not name or len(material) != 33 or material[0] not in (LOG_KEY, WITNESS_KEY):
        raise BadNote("no Ed25519 verifier key")
    key = VerifierKey(name, material[0], material[1:])
    if key.id.hex() != key_id:
        raise BadNote("the key's id is not that of the key")
    return key


def parse_note(text: str) -> Note:
    """Read a note, its signatures unchecked; raises BadNote."""
    body, divider, lines = text.rpartition("\n\n")
    if not divider or not body or not lines.endswith("\n"):
        raise BadNote("no signed note")
    return Note(body + "\n", tuple(parse_signature(line) for line in lines[:-1].split("\n")))


def parse_signature(line: str) -> Signature:
    """Read one signature line, with or without its line feed; raises BadNote."""
    match = _LINE.fullmatch(line.removesuffix("\n"))
    if match is None:
        raise BadNote("no signature line")
    value = _decode(match[2])
    if len(value) < 5:
        raise BadNote("a signature of no bytes")
    return Signature(match[1], value[:4], value[4:])


def parse_checkpoint(body: str) -> Checkpoint:
    """Read the body of a checkpoint without extension lines, which this log never writes; raises BadNote."""
    lines = body.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or _NUMBER.fullmatch(lines[1]) is None:
        raise BadNote("no checkpoint")
    root = _decode(lines[2])
    if len(root) != 32:
        raise BadNote("a root of another length")
    return Checkpoint(lines[0], int(lines[1]), root)


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> Note:
    """Sign as the log; the key's name is the origin."""
    signer = verifier_key(checkpoint.origin, key)
    return Note(checkpoint.body, (Signature(signer.name, signer.id, key.sign(checkpoint.body.encode())),))


def cosign(body: str, name: str, key: Ed25519PrivateKey, at_s: int) -> Signature:
    """Sign as a witness: at `at_s` (POSIX) this was the largest consistent state that it has seen."""
    signer = verifier_key(name, key, WITNESS_KEY)
    return Signature(name, signer.id, at_s.to_bytes(8, "big") + key.sign(_cosigned(body, at_s)))


def is_signed(body: str, signature: Signature, key: VerifierKey) -> bool:
    """Say whether `key` made this signature or cosignature over `body`."""
    if (signature.name, signature.key_id) != (key.name, key.id):
        return False
    value, message = signature.value, body.encode()
    if key.kind == WITNESS_KEY:
        if len(value) != 72:
            return False
        message, value = _cosigned(body, cosigned_at_s(signature)), value[8:]
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def cosigned_at_s(signature: Signature) -> int:
    """Return the POSIX time that a cosignature carries."""
    return int.from_bytes(signature.value[:8], "big")


def write_proof(index: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """Return a `.tlog-proof` file: that the leaf `index` is in the tree of `checkpoint`."""
    lines = [PROOF_HEADING, f"index {index}", *(b64encode(value).decode() for value in hashes), "", checkpoint]
    return "\n".join(lines)


def _cosigned(body: str, at_s: int) -> bytes:
    return f"cosignature/v1\ntime {at_s}\n{body}".encode()


def _decode(text: str) -> bytes:
    """Decode base64 that has one form only; raises BadNote."""
    try:
        value = b64decode(text, validate=True)
    except (BadBase64, ValueError):
        raise BadNote("no base64") from None
    if b64encode(value).decode() != text:
        raise BadNote("base64 in an unusual form")
    return value
