"""The header of a GGUF file, walked within limits before a server reads it: counts, types, tensors inside the file."""

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

from controlplane.kit.errors import Refused

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_FACTS = 4096
MOST_TENSORS = 100_000
LONGEST_TEXT = 1 << 20
MOST_ITEMS = 8 << 20
MOST_DIMENSIONS = 8
DEFAULT_ALIGNMENT = 32
TEXT, LIST = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# Elements and bytes of a block, by the number of the tensor's type, as gguf 0.19 has them; other numbers are retired.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip


def check_gguf(path: Path) -> int:
    """Return how many bytes of weights the file holds; raises Refused that says what is wrong with it."""
    try:
        with path.open("rb") as stream:
            return _walk(stream, path.stat().st_size)
    except (ValueError, struct.error) as error:
        raise Refused(
            f"{path.name} is no GGUF file: {error}",
            remedy="export the weights again, as safetensors or GGUF",
            code="weights_refused",
        ) from None


def _walk(stream: BinaryIO, size_bytes: int) -> int:
    if stream.read(4) != MAGIC:
        raise ValueError("it does not start like one")
    version, tensors, facts = _numbers(stream, "<IQQ")
    if version not in VERSIONS:
        raise ValueError(f"its version is {version}")
    if tensors > MOST_TENSORS or facts > MOST_FACTS:
        raise ValueError(f"it claims {tensors} tensors and {facts} facts")
    alignment = _walk_facts(stream, facts)
    spans = [_walk_tensor(stream) for _ in range(tensors)]
    data_at = -(-stream.tell() // alignment) * alignment
    return _check_spans(spans, alignment, size_bytes - data_at)


def _walk_facts(stream: BinaryIO, count: int) -> int:
    alignment, names = DEFAULT_ALIGNMENT, set()
    for _ in range(count):
        name = _text(stream)
        if name in names:
            raise ValueError(f"the fact {name!r} stands in it twice")
        names.add(name)
        (kind,) = _numbers(stream, "<I")
        if name == b"general.alignment":
            (alignment,) = _numbers(stream, "<I")
            if kind != 4 or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
                raise ValueError(f"its alignment is {alignment}")
        else:
            _skip(stream, kind)
    return alignment


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind == TEXT:
        _text(stream)
    elif kind == LIST:
        inner, count = _numbers(stream, "<IQ")
        if count > MOST_ITEMS or inner == LIST:
            raise ValueError(f"it has a list of {count} items of the type {inner}")
        if inner == TEXT:
            for _ in range(count):
                _text(stream)
        else:
            _take(stream, _size(inner) * count)
    else:
        _take(stream, _size(kind))


def _walk_tensor(stream: BinaryIO) -> tuple[int, int]:
    name = _text(stream)
    (dimensions,) = _numbers(stream, "<I")
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(f"the tensor {name!r} has {dimensions} dimensions")
    *shape, kind, offset = _numbers(stream, f"<{dimensions}QIQ")
    elements = prod(shape)
    block, block_bytes = BLOCKS.get(kind, (0, 0))
    if not block or elements >= 1 << 48 or (shape[0] if shape else 1) % block:
        raise ValueError(f"the tensor {name!r} has an unknown type or an impossible shape")
    return offset, elements // block * block_bytes


def _check_spans(spans: list[tuple[int, int]], alignment: int, data_bytes: int) -> int:
    end = 0
    for offset, size in sorted(spans):
        if offset % alignment or offset < end or offset + size > data_bytes:
            raise ValueError("its tensors overlap, or lie outside the file")
        end = offset + size
    return sum(size for _, size in spans)


def _size(kind: int) -> int:
    if kind not in SIZES:
        raise ValueError(f"it has a fact of the unknown type {kind}")
    return SIZES[kind]


def _text(stream: BinaryIO) -> bytes:
    (length,) = _numbers(stream, "<Q")
    if length > LONGEST_TEXT:
        raise ValueError(f"it has a text of {length} bytes")
    return _take(stream, length)


def _numbers(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, _take(stream, struct.calcsize(layout)))


def _take(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise ValueError("it ends in the middle of its header")
    return data
