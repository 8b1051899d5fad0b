"""AI models: weights that hold numbers and nothing that runs, each with a manifest that names every file by digest."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any  # the JSON of others has no narrower type

from pydantic import ValidationError

from controlplane.bundle.gguf import check_gguf
from controlplane.bundle.lock import FILENAME
from controlplane.bundle.manifest import CarriedFile, CarriedModel
from controlplane.bundle.safetensors import check_safetensors
from controlplane.bundle.store import link_file
from controlplane.kit.canonical import canonical_json
from controlplane.kit.errors import BadInput, Refused

WEIGHTS = {".gguf": check_gguf, ".safetensors": check_safetensors}
TEXTS = (".json", ".jinja", ".model", ".txt")  # .model is a SentencePiece vocabulary
PICKLES = (".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
RUNS_CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
LARGEST_JSON_BYTES = 256 << 20
SHARD_INDEX = ".safetensors.index.json"


def find_models(folders: tuple[Path, ...], names: tuple[str, ...]) -> dict[Path, CarriedModel]:
    """Return the wanted models by the folder that holds them, each looked into; raises BadInput or Refused.

    Digests are left to the build, which reads every byte anyway.
    """
    found = {model.name: (folder, model) for root in folders for folder, model in _read(root)}
    missing = [name for name in names if name not in found]
    if missing:
        remedy = f"give --models a folder with {missing[0]}.json and the weights it names"
        raise BadInput(f"no folder holds the model {missing[0]}", remedy=remedy)
    chosen = [found[name] for name in names]
    for folder, model in chosen:
        check_model(folder, model)
    return {folder / model.name: model for folder, model in chosen}


def files_of(model: CarriedModel) -> tuple[CarriedFile, ...]:
    """Return every file of a model, the one that a server opens first."""
    return (CarriedFile(path=model.file, sha256=model.sha256, size_bytes=model.size_bytes), *model.files)


def place_models(target: Path, models: dict[Path, CarriedModel]) -> dict[str, str]:
    """Put files and manifest at <sha256>/ below `target`; return the digests that the files must have, by path."""
    expected: dict[str, str] = {}
    for path, model in models.items():
        folder = target / model.sha256
        if folder.exists():
            raise Refused(f"{model.name} has the weights of another model", remedy="carry it under one name")
        folder.mkdir(parents=True)
        for file in files_of(model):
            link_file(path.parent / file.path, folder / file.path)
            expected[f"{model.sha256}/{file.path}"] = file.sha256
        (folder / f"{model.file}.json").write_bytes(canonical_json(model.model_dump(mode="json")))
    return expected


def check_model(folder: Path, model: CarriedModel) -> None:
    """Raise Refused unless a model is whole, holds no code, and has the format that its manifest says."""
    faults = [fault for file in files_of(model) for fault in _file_faults(folder / file.path, file)]
    if not faults:
        faults = [*_completeness_faults(folder, model)]
    if faults:
        raise Refused(
            f"the model {model.name}: {faults[0]}",
            remedy="export it as safetensors or GGUF, without code, and write its manifest anew",
            code="weights_refused",
            reasons=tuple(faults),
        )


def _file_faults(path: Path, file: CarriedFile) -> Iterator[str]:
    if not re.match(FILENAME, file.path):
        yield f"{file.path!r} is no plain file name"
    elif path.suffix.lower() in PICKLES:
        yield f"{file.path} is a kind of file that can run code when it is loaded"
    elif path.suffix not in (*WEIGHTS, *TEXTS):
        yield f"{file.path} is no safetensors, no GGUF, and no text that belongs to them"
    elif path.is_symlink() or not path.is_file():
        yield f"{path} is missing" if not path.is_symlink() else f"{path} is a symbolic link"
    elif path.stat().st_size != file.size_bytes:
        yield f"{path} has {path.stat().st_size} bytes, and its manifest says {file.size_bytes}"
    else:
        yield from _content_faults(path)


def _content_faults(path: Path) -> Iterator[str]:
    with path.open("rb") as stream:
        head = stream.read(8)
    if is_pickle(head):
        yield f"{path.name} is a pickle or an archive under another name"
    elif path.suffix in WEIGHTS:
        try:
            WEIGHTS[path.suffix](path)
        except Refused as refusal:
            yield refusal.detail
    elif path.suffix == ".json":
        yield from _json_faults(path)


def is_pickle(head: bytes) -> bool:
    """Tell whether a file begins like a pickle, a zip (how PyTorch and NumPy carry pickles), or a NumPy array."""
    return (head[:1] == b"\x80" and head[1:2] <= b"\x05") or head.startswith((b"PK\x03\x04", b"\x93NUMPY"))


def _json_faults(path: Path) -> Iterator[str]:
    if path.stat().st_size > LARGEST_JSON_BYTES:
        yield f"{path.name} is larger than {LARGEST_JSON_BYTES} bytes"
        return
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        yield f"{path.name} is no JSON: {error}"
        return
    if path.name == "tokenizer.json":  # a vocabulary may have any word as a key
        return
    yield from (f"{path.name} asks for code that is not in the server: {key}" for key in _asks_for_code(value))


def _asks_for_code(value: Any) -> set[str]:
    """Walk without recursion: the depth is up to whoever wrote it."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found |= {key for key in RUNS_CODE if part.get(key)}
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def _completeness_faults(folder: Path, model: CarriedModel) -> Iterator[str]:
    names = {file.path for file in files_of(model)}
    weights = [folder / name for name in sorted(names) if Path(name).suffix in WEIGHTS]
    if {path.suffix for path in weights} != {f".{model.format}"}:
        yield f"its manifest says {model.format}, and its files are not that"
        return
    total = sum(WEIGHTS[path.suffix](path) for path in weights)
    if total != model.weights_bytes:
        yield f"its weights have {total} bytes, and its manifest says {model.weights_bytes}"
    if model.format == "safetensors":
        if "config.json" not in names:
            yield "it has no config.json"
        if not names & {"tokenizer.json", "tokenizer.model"}:
            yield "it has no tokenizer"
    for name in sorted(names):
        if name.endswith(SHARD_INDEX):
            yield from _shard_faults(folder / name, names)


def _shard_faults(index: Path, names: set[str]) -> Iterator[str]:
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (KeyError, TypeError, AttributeError):
        yield f"{index.name} has no weight_map"
        return
    for shard in sorted(map(str, shards - names)):
        yield f"{index.name} names {shard}, which is not in the manifest"


def _read(root: Path) -> list[tuple[Path, CarriedModel]]:
    models = []
    for manifest in sorted(root.rglob("*.json")):
        try:
            model = CarriedModel.model_validate_json(manifest.read_bytes())
        except ValidationError:
            continue  # some other JSON file
        models.append((manifest.parent, model))
    return models
