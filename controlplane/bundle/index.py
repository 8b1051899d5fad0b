"""The index of a bundle's wheels, as plain files: HTML of PEP 503 and JSON of PEP 691."""

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.kit.canonical import canonical_json

API = "1.1"  # of PEP 700, which adds versions and sizes


@dataclass(frozen=True)
class IndexedWheel:
    """One wheel, as pip must know it."""

    name: str
    version: str
    filename: str
    sha256: str
    size_bytes: int
    requires_python: str


def write_index(target: Path, wheels: Iterable[IndexedWheel]) -> None:
    """Write `simple/` below `target`, whose wheels lie in `target/files`."""
    by_name: dict[str, list[IndexedWheel]] = {}
    for wheel in sorted(wheels, key=lambda wheel: wheel.filename):
        by_name.setdefault(wheel.name, []).append(wheel)
    for name, found in by_name.items():
        folder = target / "simple" / name
        _write(folder, name, [_link(wheel) for wheel in found], _project(name, found))
    names = sorted(by_name)
    listing = {"meta": {"api-version": API}, "projects": [{"name": name} for name in names]}
    _write(target / "simple", "simple", [f'<a href="{name}/">{name}</a>' for name in names], listing)


def _link(wheel: IndexedWheel) -> str:
    python = f' data-requires-python="{html.escape(wheel.requires_python)}"' if wheel.requires_python else ""
    return f'<a href="../../files/{wheel.filename}#sha256={wheel.sha256}"{python}>{wheel.filename}</a>'


def _project(name: str, wheels: list[IndexedWheel]) -> dict[str, object]:
    versions = sorted({wheel.version for wheel in wheels})
    return {"meta": {"api-version": API}, "name": name, "versions": versions, "files": [_file(one) for one in wheels]}


def _file(wheel: IndexedWheel) -> dict[str, object]:
    facts: dict[str, object] = {
        "filename": wheel.filename,
        "url": f"../../files/{wheel.filename}",
        "hashes": {"sha256": wheel.sha256},
        "size": wheel.size_bytes,
    }
    return facts | ({"requires-python": wheel.requires_python} if wheel.requires_python else {})


def _write(folder: Path, title: str, links: list[str], facts: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    body = "<br>\n".join(links)
    (folder / "index.html").write_text(
        f"<!DOCTYPE html>\n<html><head><title>{html.escape(title)}</title></head><body>\n{body}\n</body></html>\n"
    )
    (folder / "index.json").write_bytes(canonical_json(facts))
