"""Time-based one-time codes (RFC 6238: SHA-1, six digits, 30 seconds), as an authenticator app makes them."""

from datetime import datetime

import pyotp

STEP_S = 30


def totp_at(secret: str, at: datetime) -> str:
    """Return the code of a base32 secret at a time."""
    return pyotp.TOTP(secret, interval=STEP_S).at(at)


def seconds_to_next(at: datetime) -> float:
    """Return how long the code of this time is still the newest: a code counts once."""
    return STEP_S - at.timestamp() % STEP_S
