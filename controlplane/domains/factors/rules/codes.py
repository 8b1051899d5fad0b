"""Codes that people type: from an authenticator, and from the sheet of paper for the day it is lost."""

import re
import secrets
from datetime import datetime
from hmac import compare_digest

import pyotp

STEP_S = 30
WINDOW = 1  # steps before and after: a phone's clock may be half a minute off
RECOVERY_CODES = 10
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 letters and digits; l, o, 0 and 1 look alike
RECOVERY = re.compile(rf"[{ALPHABET}]{{16}}")


def new_totp_secret() -> str:
    """Return 160 random bits in base32, as RFC 4226 asks."""
    return pyotp.random_base32(32)


def totp_uri(secret: str, *, account: str, site: str) -> str:
    """Return what the QR code says."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=f"Redoubt {site}")


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is (RFC 6238), or None; all steps of the window are compared."""
    typed = "".join(code.split())
    if not (typed.isascii() and typed.isdecimal() and len(typed) == 6):
        return None
    today = int(now.timestamp()) // STEP_S
    totp = pyotp.HOTP(secret)
    fitting = [n for n in range(today - WINDOW, today + WINDOW + 1) if compare_digest(totp.at(n), typed)]
    return fitting[-1] if fitting else None


def new_recovery_codes() -> tuple[str, ...]:
    """Return ten codes of 80 bits: too many to guess, so a plain digest keeps them."""
    return tuple(_grouped("".join(secrets.choice(ALPHABET) for _ in range(16))) for _ in range(RECOVERY_CODES))


def typed_recovery_code(text: str) -> str | None:
    """Return a code as it was made, however it was typed, or None when it cannot be one."""
    bare = re.sub(r"[\s-]", "", text).lower()
    return _grouped(bare) if RECOVERY.fullmatch(bare) else None


def _grouped(bare: str) -> str:
    return "-".join(bare[at : at + 4] for at in range(0, len(bare), 4))
