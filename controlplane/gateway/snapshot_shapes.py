"""A verified snapshot read without one object of Pydantic's for every key.

Thousands of those hold the loop and leave memory behind for ever (decision 0035). The shapes are those of
contracts.snapshot; what differs is refused as it would be there.
"""

from datetime import datetime
from typing import Annotated, cast

import msgspec

from controlplane.contracts.snapshot import Priority, Snapshot, SnapshotKey

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


class Secret(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    secret_id: str
    sha256: str
    expires_at: _Aware


class Key(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    key_id: str
    project: str
    secrets: tuple[Secret, ...]
    endpoints: tuple[str, ...]
    zones: tuple[str, ...]
    purposes: tuple[str, ...]
    classification: int
    sources: tuple[str, ...]
    priority: Priority = "interactive"
    jurisdictions: tuple[str, ...] = ()


class _Version(msgspec.Struct):
    version: int


_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEYS = msgspec.json.Decoder(tuple[Key, ...])
_VERSION = msgspec.json.Decoder(_Version)


def read_snapshot(payload: bytes) -> Snapshot:
    """Read a payload. Raises ValueError (Pydantic's and msgspec's errors are of its kind)."""
    parts = _PARTS.decode(payload)
    keys = parts.pop("keys", None)
    if keys is None:
        return Snapshot.model_validate_json(payload)  # it says what is missing
    rest = Snapshot.model_validate_json(msgspec.json.encode(parts | {"keys": msgspec.Raw(b"[]")}))
    shaped = cast("tuple[SnapshotKey, ...]", _KEYS.decode(keys))  # the same fields, by a test
    return rest.model_copy(update={"keys": shaped})


def read_version(payload: str) -> int:
    """Return the version alone. Raises ValueError."""
    return _VERSION.decode(payload).version
