"""The header of a safetensors file, checked before anything else reads it: bounds, types, no overlap, no gaps."""

import json
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any  # the JSON of others has no narrower type

from controlplane.kit.errors import Refused

LARGEST_HEADER_BYTES = 100_000_000  # the format's own limit
MOST_TENSORS = 1_000_000
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "F4": 4,
}  # fmt: skip


def check_safetensors(path: Path) -> int:
    """Return how many bytes of weights the file holds; raises Refused that says what is wrong with it."""
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or not 2 <= length <= min(LARGEST_HEADER_BYTES, size_bytes - 8):
            raise _broken(path, "the length of its header is impossible")
        raw = stream.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_without_doubles)
        return _check_tensors(header, size_bytes - 8 - length)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _broken(path, str(error) or type(error).__name__) from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in its header twice")
    return found


def _check_tensors(header: Any, data_bytes: int) -> int:
    if not isinstance(header, dict):
        raise TypeError("its header is no object")
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise ValueError(f"it names more than {MOST_TENSORS} tensors")
    spans = sorted(_span(name, tensor) for name, tensor in header.items())
    edges = [(0, 0), *spans, (data_bytes, data_bytes)]
    for (_, end), (begin, _) in pairwise(edges):
        if begin != end:
            raise ValueError("its tensors overlap or leave gaps")
    return data_bytes


def _span(name: str, tensor: Any) -> tuple[int, int]:
    begin, end = tensor["data_offsets"]
    shape, bits = tensor["shape"], BITS.get(tensor["dtype"])
    numbers = [begin, end, *shape]
    if bits is None or set(tensor) != {"data_offsets", "shape", "dtype"}:
        raise ValueError(f"the tensor {name!r} has an unknown type or field")
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise ValueError(f"the tensor {name!r} has impossible numbers")
    if (end - begin) * 8 != prod(shape) * bits:
        raise ValueError(f"the tensor {name!r} is not as large as its shape")
    return begin, end


def _broken(path: Path, reason: str) -> Refused:
    return Refused(
        f"{path.name} is no safetensors file: {reason[:200]}",
        remedy="export the weights again, as safetensors or GGUF",
        code="weights_refused",
    )
