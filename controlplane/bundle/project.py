"""What a bundle has of the product itself: its wheel, and for each extra the pins that a node installs.

Both follow from the sources and the locked wheels alone, so they are made once for each state of those.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.lock import Artefact, Lock
from controlplane.bundle.manifest import digest_stream
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.store import BlobStore, PartStore
from controlplane.bundle.wheels import PROJECT, build_wheel, place_wheels, resolve_extras, wheel_names
from controlplane.kit.canonical import canonical_json, sha256_hex

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day that a zip knows


@dataclass(frozen=True)
class Project:
    """`wheel` and `requirements` (by extra) lie in the cache."""

    wheel: Path
    requirements: dict[str, Path]


def make_project(sources: Path, recipe: Recipe, lock: Lock, cache: Path) -> Project:
    """Return wheel and requirement lists, making them if the sources or the locked wheels changed."""

    def make(target: Path) -> None:
        _make(target, sources, recipe, lock, BlobStore(cache))

    folder = PartStore(cache).get("projects", _digest(sources, recipe, lock), make)
    return Project(next(folder.glob("*.whl")), {extra: folder / f"{extra}.txt" for extra in recipe.extras})


def project_artefacts(project: Project, recipe: Recipe) -> list[Artefact]:
    """Return how a lock names what came from the sources."""
    by_extra = {e: tuple(sorted(n for n, f in recipe.features.items() if e in f.extras)) for e in recipe.extras}
    everyone = tuple(sorted(name for name, feature in recipe.features.items() if feature.extras))
    _, version = wheel_names(project.wheel)
    lists = [
        _artefact(f"requirements-{extra}", path, version, by_extra[extra])
        for extra, path in project.requirements.items()
    ]
    return [_artefact(PROJECT, project.wheel, version, everyone), *lists]


def _artefact(name: str, path: Path, version: str, needed_by: tuple[str, ...]) -> Artefact:
    with path.open("rb") as stream:
        sha256, size_bytes = digest_stream(stream)
    return Artefact(
        type="wheel" if path.suffix == ".whl" else "file",
        name=name,
        version=version,
        filename=path.name,
        source=f"project:{name}",
        size_bytes=size_bytes,
        sha256=sha256,
        needed_by=needed_by,
        licence="Apache-2.0",
    )


def _make(target: Path, sources: Path, recipe: Recipe, lock: Lock, store: BlobStore) -> None:
    with tempfile.TemporaryDirectory(prefix="redoubt-project-") as scratch:
        built = build_wheel(Path(scratch) / "built", sources)
        wheel = store_plainly(built, target / built.name)
        place_wheels(lock.of("wheel"), store, Path(scratch) / "wheels")
        resolved = resolve_extras(Path(scratch) / "wheels", recipe.python, sources, recipe.extras)
    with wheel.open("rb") as stream:
        sha256, _ = digest_stream(stream)
    _, version = wheel_names(wheel)
    for extra, pins in resolved.items():
        (target / f"{extra}.txt").write_text(f"{pins}{PROJECT}=={version} \\\n    --hash=sha256:{sha256}\n")


def store_plainly(wheel: Path, target: Path) -> Path:
    """Write a wheel anew without compression: compressors differ, and one lock must give one digest on any machine."""
    with zipfile.ZipFile(wheel) as packed, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as plain:
        for name in packed.namelist():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr, entry.create_system = 0o100644 << 16, 3
            plain.writestr(entry, packed.read(name))
    return target


def _digest(sources: Path, recipe: Recipe, lock: Lock) -> str:
    parts = {
        "form": 1,
        "sources": _tree_digest(_files(sources), sources),
        "python": recipe.python.model_dump(),
        "extras": recipe.extras,
        "wheels": sorted(wheel.sha256 for wheel in lock.of("wheel")),
    }
    return sha256_hex(canonical_json(parts))


def _files(sources: Path) -> Iterator[Path]:
    yield from (sources / name for name in ("pyproject.toml", "README.md", "LICENSE"))
    for parent, folders, names in os.walk(sources / "controlplane"):
        folders[:] = [folder for folder in folders if folder != "__pycache__"]
        yield from (Path(parent, name) for name in names)


def _tree_digest(paths: Iterator[Path], root: Path) -> str:
    lines = []
    for path in sorted(path for path in paths if path.is_file()):
        with path.open("rb") as stream:
            lines.append(f"{digest_stream(stream)[0]} {path.relative_to(root)}")
    return sha256_hex("\n".join(lines).encode())
