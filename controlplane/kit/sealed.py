"""Small secrets at rest: AES-256-GCM under a key from a file, bound to where they belong."""

import secrets
from base64 import urlsafe_b64decode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from controlplane.kit.errors import BadInput, Unavailable

KEY_BYTES = 32
NONCE_BYTES = 12


class Sealer:
    """Seals and opens; what was sealed for one place does not open for another."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, place: str) -> bytes:
        """Return nonce and ciphertext. A random 96-bit nonce is safe for 2**32 secrets (NIST SP 800-38D, 8.3)."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Raises Unavailable when the key is another one or the bytes were changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise Unavailable(
                "a sealed secret does not open with this site's key",
                remedy="put the site's own factors.key back, or reset this person's authenticator",
                code="sealed_secret",
            ) from None


def load_sealer(path: Path) -> Sealer:
    """Read a key of 32 bytes in base64url; raises BadInput for anything else."""
    try:
        key = urlsafe_b64decode(path.read_text().strip() + "=")
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist", remedy="apply the stage control_plane again") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path} holds no key of 32 bytes in base64url", remedy="put the site's own file back")
    return Sealer(key)
