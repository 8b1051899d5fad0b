"""Time-based one-time codes (RFC 6238: SHA-1, six digits, 30 seconds), as an authenticator app makes them."""

import hmac
import struct
from base64 import b32decode
from datetime import datetime

STEP_S = 30


def totp_at(secret: str, at: datetime) -> str:
    """Return the code of a base32 secret at a time."""
    key = b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(at.timestamp()) // STEP_S), "sha1").digest()
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def seconds_to_next(at: datetime) -> float:
    """Return how long the code of this time is still the newest: a code counts once."""
    return STEP_S - at.timestamp() % STEP_S
