"""What a bundle says it holds, read by the standard library alone: the twin of `Manifest` for the depot's node."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple  # JSON has no narrower type

from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import Refused

MANIFEST = "bundle.json"
LOCK = "lock.json"
SHEET = "sheet.json"
PART = ".part"
FORMAT = 2
TRUST = "trust/"
SIGNATURES = "trust/signatures.json"
RELEASE = "apt/dists/redoubt/Release"
IN_RELEASE = "apt/dists/redoubt/InRelease"
FIELDS = {
    "format", "product", "version", "serial", "floor", "created_at", "expires_at", "suite", "architecture", "lock",
    "features", "models", "files",
}  # fmt: skip
LONGEST_PATH = 240


class Carried(NamedTuple):
    """One file of a bundle."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Contents:
    """What is asked of a bundle before it is trusted; `digest` is that of its manifest."""

    digest: str
    serial: int
    floor: int
    expires_at: datetime
    suite: str
    architecture: str
    files: tuple[Carried, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def root_path(version: int) -> str:
    """Return where a bundle carries a trust root."""
    return f"{TRUST}root.{version}.json"


def is_beside(path: str) -> bool:
    """Tell whether a path stands beside the manifest: it depends on who signs, so the manifest cannot name it."""
    return path in (MANIFEST, SIGNATURES, IN_RELEASE) or re.fullmatch(r"trust/root\.[1-9]\d*\.json", path) is not None


def read_contents(raw: bytes) -> Contents:
    """Parse a manifest whose signatures are good; raises Refused that names what is wrong with it."""
    try:
        value: dict[str, Any] = json.loads(raw)
        if value.get("format") != FORMAT:
            raise ValueError(f"its format is {value.get('format')!r} and not {FORMAT}")
        if set(value) != FIELDS or canonical_json(value) != raw:
            raise ValueError("it is not what this version writes")
        files = tuple(Carried(**entry) for entry in value["files"])
        contents = Contents(
            digest=sha256_hex(raw),
            serial=_number(value["serial"]),
            floor=_number(value["floor"]),
            expires_at=datetime.fromisoformat(value["expires_at"]),
            suite=value["suite"],
            architecture=value["architecture"],
            files=files,
        )
        for fault in _faults(files, value["lock"]):
            raise ValueError(fault)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{MANIFEST}: {error}", remedy="build the bundle again", code="bundle_shape") from None
    return contents


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("its serial and floor are no numbers from 1")
    return value


def _faults(files: tuple[Carried, ...], lock: str) -> Iterator[str]:
    yield from path_faults([file.path for file in files])
    for file in files:
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256) or type(file.size_bytes) is not int or file.size_bytes < 0:
            yield f"{file.path} has no digest or size"
        if is_beside(file.path) or file.path.startswith(TRUST):
            yield f"{file.path} cannot be named by the manifest"
    if [file.path for file in files] != sorted(file.path for file in files):
        yield "its files are not sorted"
    if lock not in {file.sha256 for file in files if file.path == LOCK}:
        yield f"its lock is not the {LOCK} that it carries"


def path_faults(paths: Iterable[str]) -> Iterator[str]:
    """Yield what is wrong with the paths of a bundle: outside of it, or two that some file system takes for one."""
    seen: dict[str, str] = {}
    for path in paths:
        if not is_inside(path):
            yield f"{path!r} is a path outside the bundle"
        folded = unicodedata.normalize("NFC", path).casefold()
        if folded in seen:
            yield f"{path} and {seen[folded]} differ in nothing but upper and lower case"
        seen[folded] = path
    folders = {str(parent) for path in seen for parent in PurePosixPath(path).parents}
    for path in sorted(folders & set(seen)):
        yield f"{path} is both a file and a folder"


def is_inside(path: str) -> bool:
    """Tell whether a path of a bundle stays below it and every file system can hold it."""
    pure = PurePosixPath(path)
    plain = path.isprintable() and "\\" not in path and 0 < len(path.encode()) <= LONGEST_PATH
    return plain and not pure.is_absolute() and ".." not in pure.parts and str(pure) == path and path != "."
