"""One byte form for one value, so that digests and signatures mean something."""

import hashlib
import json
from typing import Any  # JSON values have no narrower type


def canonical_json(value: Any) -> bytes:
    """Return UTF-8 JSON with sorted keys and no white space (RFC 8785 for our value range: no floats)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 digest as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()
