"""AI models: each a weights file and its manifest, kept by digest."""

from pathlib import Path

from pydantic import ValidationError

from controlplane.bundle.manifest import CarriedModel, digest_stream
from controlplane.bundle.store import link_file
from controlplane.kit.errors import BadInput, Refused


def find_models(folders: tuple[Path, ...], names: tuple[str, ...]) -> dict[Path, CarriedModel]:
    """Return the wanted models by the path of their weights, each checked against its manifest's digest."""
    found = {model.name: (path, model) for folder in folders for path, model in _read(folder)}
    missing = [name for name in names if name not in found]
    if missing:
        remedy = f"give --models a folder with {missing[0]}.json and the weights it names"
        raise BadInput(f"no folder holds the model {missing[0]}", remedy=remedy)
    chosen = dict(found[name] for name in names)
    for path, model in chosen.items():
        _check(path, model)
    return chosen


def place_models(target: Path, models: dict[Path, CarriedModel]) -> None:
    """Put weights and manifest at <sha256>/ below `target`."""
    for path, model in models.items():
        folder = target / model.sha256
        folder.mkdir(parents=True)
        link_file(path, folder / model.file)
        (folder / f"{model.file}.json").write_text(model.model_dump_json(indent=1) + "\n")


def _read(folder: Path) -> list[tuple[Path, CarriedModel]]:
    models = []
    for manifest in sorted(folder.rglob("*.json")):
        try:
            model = CarriedModel.model_validate_json(manifest.read_bytes())
        except ValidationError:
            continue  # some other JSON file
        models.append((manifest.parent / model.file, model))
    return models


def _check(path: Path, model: CarriedModel) -> None:
    if not path.is_file():
        raise BadInput(f"{path} is missing", remedy="put the weights beside their manifest")
    with path.open("rb") as stream:
        digest, size_bytes = digest_stream(stream)
    if (digest, size_bytes) != (model.sha256, model.size_bytes):
        raise Refused(f"{path} is not the file its manifest names", remedy="fetch or make the model again")
