"""Prefixed identifiers: what a person sees in a log says what it names."""

import secrets


def new_id(prefix: str) -> str:
    """Return `prefix_` and 80 random bits in hex."""
    return f"{prefix}_{secrets.token_hex(10)}"
