"""How weights say that their tokens become one vector: a fact in the head of a GGUF file."""

import mmap
import struct
from pathlib import Path

RANK = 4  # llama.cpp's number for weights that end in a judge of pairs
_KEY = b".pooling_type" + struct.pack("<I", 4)  # GGUF's own: after a key comes the kind of its value, here uint32
_MOST_HEAD_BYTES = 64 << 20  # a vocabulary of a million pieces ends before


def read_pooling(weights: Path) -> int | None:
    """Return llama.cpp's number of the pooling, None for weights that name none. Raises OSError."""
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as head:
        at = head.find(_KEY, 0, _MOST_HEAD_BYTES)
        return int(struct.unpack_from("<I", head, at + len(_KEY))[0]) if at >= 0 else None
