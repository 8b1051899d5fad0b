"""The practice model as weights with a ranking head: one more fact in the head of its file."""

import struct
from pathlib import Path

_COUNTS_END = 24  # magic, version, number of tensors, number of facts


def write_ranking_weights(plain: Path, at: Path) -> None:
    """Copy GGUF weights, and say that their pooling is to rank. 64 more bytes leave every tensor aligned."""
    content = plain.read_bytes()
    facts = struct.unpack_from("<Q", content, 16)[0]
    added = _fact(b"llama.pooling_type", 4) + _fact(b"general.filler", 0)
    at.write_bytes(content[:16] + struct.pack("<Q", facts + 2) + added + content[_COUNTS_END:])


def _fact(key: bytes, value: int) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, value)
