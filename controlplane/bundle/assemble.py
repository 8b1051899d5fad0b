"""Lay a bundle out in a folder: links into the store, and everything that follows from the lock."""

from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.contents import LOCK
from controlplane.bundle.index import IndexedWheel, write_index
from controlplane.bundle.lock import Artefact, Lock, to_text
from controlplane.bundle.manifest import CarriedModel
from controlplane.bundle.project import Project, project_artefacts
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.repository import write_repository
from controlplane.bundle.sbom import write_licences, write_sbom
from controlplane.bundle.store import BlobStore, link_file
from controlplane.bundle.weights import files_of, place_models
from controlplane.bundle.wheels import refuse_startup_code, requires_python

FOLDERS = {"deb": "apt/pool", "wheel": "wheels/files", "oci": "oci", "file": "files", "collection": "collections"}


@dataclass(frozen=True)
class Parts:
    """What a bundle is laid out from; `models` by the path of their manifest without `.json`."""

    recipe: Recipe
    lock: Lock
    project: Project
    models: dict[Path, CarriedModel]
    version: str


@dataclass(frozen=True)
class Laid:
    """A bundle before its manifest; `expected` is the digest that each linked file must have, by path."""

    lock: Lock
    release: Path
    expected: dict[str, str]


def lay_out(folder: Path, parts: Parts, store: BlobStore) -> Laid:
    """Write everything below `folder` but the manifest and what is signed."""
    expected = _link_artefacts(folder, parts.lock, store)
    release = write_repository(folder / "apt", parts.lock, store)
    _place_project(folder, parts.project)
    placed = place_models(folder / "models", parts.models)
    expected |= {f"models/{path}": sha256 for path, sha256 in placed.items()}
    whole = complete_lock(parts)
    _write_wheel_index(folder, whole)
    (folder / LOCK).write_text(to_text(whole))
    write_sbom(folder / "sbom", whole, parts.version)
    write_licences(folder / "licences.json", whole)
    return Laid(whole, release, expected)


def complete_lock(parts: Parts) -> Lock:
    """Return the lock with what comes from the sources and the models that were given."""
    models = [_model(model, parts.recipe) for model in parts.models.values()]
    artefacts = (*parts.lock.artefacts, *project_artefacts(parts.project, parts.recipe), *models)
    ordered = tuple(sorted(artefacts, key=lambda artefact: (*artefact.key, artefact.version)))
    return parts.lock.model_copy(update={"artefacts": ordered})


def _link_artefacts(folder: Path, lock: Lock, store: BlobStore) -> dict[str, str]:
    """Link all but packages and wheels, which their indexes place; return every digest."""
    expected: dict[str, str] = {}
    for artefact in lock.artefacts:
        path = f"{FOLDERS[artefact.type]}/{artefact.filename}"
        expected[path] = artefact.sha256
        if artefact.type != "deb":
            store.link(artefact.sha256, folder / path)
    return expected


def _place_project(folder: Path, project: Project) -> None:
    (folder / "requirements").mkdir(parents=True)
    (folder / "wheels/files").mkdir(parents=True, exist_ok=True)
    link_file(project.wheel, folder / "wheels/files" / project.wheel.name)
    for extra, path in project.requirements.items():
        link_file(path, folder / f"requirements/{extra}.txt")


def _write_wheel_index(folder: Path, lock: Lock) -> None:
    files = folder / "wheels/files"
    for wheel in lock.of("wheel"):
        refuse_startup_code(files / wheel.filename)
    wheels = [
        IndexedWheel(
            wheel.name,
            wheel.version,
            wheel.filename,
            wheel.sha256,
            wheel.size_bytes,
            requires_python(files / wheel.filename),
        )
        for wheel in lock.of("wheel")
    ]
    write_index(folder / "wheels", wheels)


def _model(model: CarriedModel, recipe: Recipe) -> Artefact:
    features = tuple(sorted(name for name, feature in recipe.features.items() if model.name in feature.models))
    return Artefact(
        type="model",
        name=model.name,
        version=model.sha256[:16],
        filename=model.file,
        source=f"local:{model.name}",
        size_bytes=sum(file.size_bytes for file in files_of(model)),
        sha256=model.sha256,
        needed_by=features,
        licence=model.licence,
    )
