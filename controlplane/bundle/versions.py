"""Versions of Debian packages, compared as Debian policy 5.6.12 says."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

Part: TypeAlias = tuple[tuple[int, ...] | int, ...]
Key: TypeAlias = tuple[int, Part, Part]

_PIECES = re.compile(r"(\D*)(\d*)")
_OPERATORS: dict[str, Callable[[int], bool]] = {
    "<<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">>": lambda order: order > 0,
}


@lru_cache(maxsize=1 << 16)
def version_key(version: str) -> Key:
    """Return a value that sorts as the version does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), _part(upstream if dash else rest), _part(revision if dash else "0")


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Tell whether `version` stands in this relation to `wanted`."""
    mine, theirs = version_key(version), version_key(wanted)
    return _OPERATORS[operator]((mine > theirs) - (mine < theirs))


def _part(text: str) -> Part:
    # Words and numbers in turn, so that equal places of two keys always hold one kind; an end sorts above a tilde only.
    key: list[tuple[int, ...] | int] = []
    for word, number in _PIECES.findall(text or "0"):
        if word or number:
            key += [(*map(_order, word), 0), int(number or 0)]
    return (*key, (0,))


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
