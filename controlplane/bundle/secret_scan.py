"""A bundle goes to every node of a site, so it must carry no secret: names and contents that look like one."""

import re
from pathlib import PurePosixPath

TEXT_BYTES = 1 << 20

NAMES = re.compile(
    r"\.?_?netrc|id_(?:rsa|dsa|ecdsa|ed25519)|\.pgpass|\.git-credentials|\.pypirc|\.npmrc|\.htpasswd|.*\.(?:p12|pfx|kdbx)"
)
CONTENTS = {
    "a private key": rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a token of this product": rb"\b(?:rd[akr]|enrol)_[A-Za-z0-9_-]{43}\b",
    "a key of a cloud": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[0-9A-Za-z_-]{35}\b",
    "a token of a code host": rb"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{60,}|\bglpat-[A-Za-z0-9_-]{20}",
    "a token of a model hub": rb"\bhf_[A-Za-z0-9]{34}\b",
    "a token of a chat service": rb"\bxox[abprs]-[A-Za-z0-9-]{20,}",
    "a login for a machine": rb"(?m)^\s*machine\s+\S+\s+login\s+\S+\s+password\s+\S+",
    "an encryption key": rb"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b",
}
PATTERNS = {what: re.compile(pattern) for what, pattern in CONTENTS.items()}


def secret_name(path: str) -> str | None:
    """Say what a file's name gives away, if it does."""
    name = PurePosixPath(path).name
    return f"{path} has the name of a file of secrets" if NAMES.fullmatch(name) else None


def secret_in(path: str, content: bytes) -> str | None:
    """Say what kind of secret a file holds, without repeating it."""
    for what, pattern in PATTERNS.items():
        if pattern.search(content):
            return f"{path} holds what looks like {what}"
    return None


def is_scanned(size_bytes: int) -> bool:
    """Tell whether a file is small enough to be text that a person wrote."""
    return size_bytes <= TEXT_BYTES
