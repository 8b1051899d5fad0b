"""A WebAuthn authenticator in software, with a person who can be told to misbehave."""

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, HAS_KEY = 0x01, 0x04, 0x40


@dataclass
class Authenticator:
    """Holds one ES256 key. The fields below are how it lies: about its user, its counter, its party and its origin."""

    origin: str
    rp_id: str = ""
    verifies_user: bool = True
    counter: int = 0
    counts: bool = True
    user_handle: bytes = b""
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def create(self, options: str) -> str:
        """Answer `navigator.credentials.create`."""
        asked = json.loads(options)
        self.user_handle = _unpacked(asked["user"]["id"])
        party = self.rp_id or asked["rp"]["id"]
        key = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + self._cose_key()
        data = self._data(party, HAS_KEY) + key
        statement = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("webauthn.create", asked["challenge"])
        return self._answer({"clientDataJSON": _packed(client), "attestationObject": _packed(statement)})

    def get(self, options: str) -> str:
        """Answer `navigator.credentials.get`."""
        asked = json.loads(options)
        self.counter += self.counts
        data = self._data(self.rp_id or asked["rpId"], 0)
        client = self._client("webauthn.get", asked["challenge"])
        signature = self.key.sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer({
            "clientDataJSON": _packed(client),
            "authenticatorData": _packed(data),
            "signature": _packed(signature),
            "userHandle": _packed(self.user_handle),
        })  # fmt: skip

    def _data(self, party: str, more: int) -> bytes:
        flags = PRESENT | more | (VERIFIED if self.verifies_user else 0)
        return sha256(party.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4, "big")

    def _client(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _cose_key(self) -> bytes:
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})

    def _answer(self, response: dict[str, str]) -> str:
        name = _packed(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def _packed(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
