"""What a delta says of itself: the bundle it stands on, the bundle it makes, and the files it carries."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.contents import Carried, Contents
from controlplane.kit.canonical import canonical_json
from controlplane.kit.errors import BadInput, Refused

FORMAT = 1


@dataclass(frozen=True)
class DeltaList:
    """`base` and `result` are digests of bundles; `files` are paths of the result."""

    base: str
    result: str
    files: tuple[str, ...]


def delta_bytes(delta: DeltaList) -> bytes:
    return canonical_json({"format": FORMAT, **vars(delta)})


def read_delta(raw: bytes) -> DeltaList:
    """Parse it; raises Refused when it is not exactly what `delta_bytes` writes."""
    try:
        value = json.loads(raw)
        delta = DeltaList(value["base"], value["result"], tuple(value["files"]))
        if delta_bytes(delta) != raw:
            raise ValueError("it is not in its canonical form")
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"the delta is altered: {error}", remedy="carry it in again", code="bundle_altered") from None
    return delta


def refuse_delta(delta: bytes | None, path: Path) -> None:
    """Raises BadInput that says how to join, where a whole bundle is wanted."""
    if delta is not None:
        raise BadInput(
            f"{path} is a delta, which carries only what its base lacks",
            remedy=f"make it whole first: redoubt bundle join {path} --base BUNDLE --out FILE.tar",
            code="is_delta",
        )


def files_of(contents: Contents, delta: DeltaList | None) -> tuple[Carried, ...]:
    """Return the files that a tar carries: all, or those of a delta; raises Refused when it makes another bundle."""
    if delta is None:
        return contents.files
    wanted = set(delta.files)
    if delta.result != contents.digest or wanted - {file.path for file in contents.files}:
        raise Refused("the delta makes another bundle", remedy="carry it in again", code="bundle_altered")
    return tuple(file for file in contents.files if file.path in wanted)


def lacking(contents: Contents, base: Iterable[Carried]) -> tuple[Carried, ...]:
    """Return the files whose content a base bundle does not have under any name."""
    has = {(file.sha256, file.size_bytes) for file in base}
    return tuple(file for file in contents.files if (file.sha256, file.size_bytes) not in has)
