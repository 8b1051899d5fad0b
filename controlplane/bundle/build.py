"""Build a bundle: packages, wheels and models in one signed folder, and one tar to carry in."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from controlplane.bundle.archive import files_below, folder_head, pack_bundle
from controlplane.bundle.contents import LOCK, MANIFEST, is_beside
from controlplane.bundle.keys import BuilderKeys, builder_keys
from controlplane.bundle.manifest import CarriedModel, Manifest, carry, digest_stream, to_bytes
from controlplane.bundle.memory import roots_in
from controlplane.bundle.packages import make_repository
from controlplane.bundle.recipe import Recipe, choose_features, read_recipe
from controlplane.bundle.signing import signed_trust, write_trust
from controlplane.bundle.store import PartStore, alone, link_tree
from controlplane.bundle.verify import Trust, verify_bundle
from controlplane.bundle.weights import find_models, place_models
from controlplane.bundle.wheels import build_project, download_wheels, write_index, write_requirements
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.errors import RedoubtError

VALID_DAYS = 365
Say = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Order:
    """What to build. `base` is the tree of the node image; `models` are folders with manifests and weights.

    `only` names features; none means all of the recipe.
    """

    features: Path
    locks: Path
    out: Path
    project: Path
    cache: Path
    base: Path | None = None
    models: tuple[Path, ...] = ()
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A bundle on disk; `fresh` is false when it was already there."""

    folder: Path
    archive: Path
    digest: str
    size_bytes: int
    fresh: bool


def build_bundle(order: Order, say: Say) -> Built:
    """Make `order.out` and `order.out`.tar; unchanged inputs leave both as they are."""
    order.out.parent.mkdir(parents=True, exist_ok=True)
    with alone(order.out.with_name(f".{order.out.name}.lock")):
        return _build(order, say)


def _build(order: Order, say: Say) -> Built:
    recipe = choose_features(read_recipe(order.features), order.only)
    keys = builder_keys(order.cache / "keys")
    models = find_models(order.models, recipe.models)
    inputs = _inputs(order, recipe, keys, models)
    archive = order.out.with_name(order.out.name + ".tar")
    standing = _standing(order, archive, inputs)
    if standing:
        say("bundle: unchanged")
        return standing
    with tempfile.TemporaryDirectory(prefix=f".{order.out.name}-", dir=order.out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        _assemble(folder, order, recipe, keys, models, say)
        digest, size_bytes = _seal(folder, recipe, keys, models, inputs)
        say(f"bundle: signed, {size_bytes / 1e6:.0f} MB, digest {digest[:16]}")
        packed = pack_bundle(folder, Path(scratch) / "bundle.tar")
        shutil.rmtree(order.out, ignore_errors=True)
        folder.rename(order.out)
        packed.rename(archive)
    verify_bundle(archive, Trust(order.cache))
    return Built(order.out, archive, digest, size_bytes, fresh=True)


def _standing(order: Order, archive: Path, inputs: str) -> Built | None:
    """Return the bundle that stands if it is made of the same and still what was signed, as folder and as tar."""
    try:
        if json.loads((order.out / LOCK).read_bytes()).get("inputs") != inputs:
            return None
        found = [verify_bundle(path, Trust(order.cache)) for path in (order.out, archive)]
    except (OSError, ValueError, RedoubtError):
        return None
    return Built(order.out, archive, found[0].digest, found[0].manifest.size_bytes, fresh=False)


def _inputs(order: Order, recipe: Recipe, keys: BuilderKeys, models: dict[Path, CarriedModel]) -> str:
    parts = {
        "debs": _debs_digest(order, recipe, keys),
        "wheels": _wheels_digest(order, recipe),
        "project": _tree_digest(_sources(order.project), order.project),
        "models": sorted(model.sha256 for model in models.values()),
        "keys": sha256_hex(keys.public.read_bytes()),
        "features": sorted(recipe.features),
    }
    return sha256_hex(canonical_json(parts))


def _assemble(
    folder: Path, order: Order, recipe: Recipe, keys: BuilderKeys, models: dict[Path, CarriedModel], say: Say
) -> None:
    folder.mkdir()
    store = PartStore(order.cache)
    with ThreadPoolExecutor() as pool:
        debs = pool.submit(_timed, say, "packages", lambda: _debs(store, order, recipe, keys))
        wheels = pool.submit(_timed, say, "wheels", lambda: _wheels(store, order, recipe))
        link_tree(wheels.result(), folder / "wheels/files")
        _timed(say, "project", lambda: _project(folder, order, recipe))
        place_models(folder / "models", models)
        link_tree(debs.result(), folder / "apt")


def _debs(store: PartStore, order: Order, recipe: Recipe, keys: BuilderKeys) -> Path:
    def make(target: Path) -> None:
        make_repository(target, recipe.distribution, recipe.debs, base=order.base, keys=keys)

    return store.get("repositories", _debs_digest(order, recipe, keys), make)


def _wheels(store: PartStore, order: Order, recipe: Recipe) -> Path:
    def make(target: Path) -> None:
        download_wheels(target, order.locks, recipe.python)

    return store.get("wheels", _wheels_digest(order, recipe), make)


def _project(folder: Path, order: Order, recipe: Recipe) -> None:
    files, requirements = folder / "wheels/files", folder / "requirements"
    build_project(files, order.project)
    write_index(folder / "wheels", sorted(files.glob("*.whl")))
    requirements.mkdir()
    write_requirements(requirements, files, recipe, project=order.project)


def _seal(
    folder: Path, recipe: Recipe, keys: BuilderKeys, models: dict[Path, CarriedModel], inputs: str
) -> tuple[str, int]:
    created_at = SystemClock().now().replace(microsecond=0)
    lock = canonical_json({"inputs": inputs})
    (folder / LOCK).write_bytes(lock)
    manifest = Manifest(
        version=metadata.version("redoubt"),
        serial=1,
        floor=1,
        created_at=created_at,
        expires_at=created_at + timedelta(days=VALID_DAYS),
        suite=recipe.distribution.suite,
        architecture=recipe.distribution.architecture,
        lock=sha256_hex(lock),
        features=tuple(sorted(recipe.features)),
        models=tuple(sorted(models.values(), key=lambda model: model.name)),
        files=carry(folder, (p for p in files_below(folder) if not is_beside(p.relative_to(folder).as_posix()))),
    )
    raw = to_bytes(manifest)
    (folder / MANIFEST).write_bytes(raw)
    trust, _ = signed_trust(folder_head(folder), load_signing_key(keys.signing), roots_in(keys.roots))
    write_trust(folder, trust)
    return sha256_hex(raw), manifest.size_bytes


def _debs_digest(order: Order, recipe: Recipe, keys: BuilderKeys) -> str:
    base = (order.base / "var/lib/dpkg/status").read_bytes() if order.base else b""
    parts = {
        "distribution": recipe.distribution.model_dump(),
        "debs": recipe.debs,
        "base": sha256_hex(base),
        "key": sha256_hex(keys.apt_public.read_bytes()),
    }
    return sha256_hex(canonical_json(parts))


def _wheels_digest(order: Order, recipe: Recipe) -> str:
    python = recipe.python.model_dump()
    return sha256_hex(canonical_json({"lock": sha256_hex(order.locks.read_bytes()), "python": python}))


def _sources(project: Path) -> Iterator[Path]:
    yield project / "pyproject.toml"
    yield from (path for path in files_below(project / "controlplane") if "__pycache__" not in path.parts)


def _tree_digest(paths: Iterator[Path], root: Path) -> str:
    lines = []
    for path in sorted(paths):
        with path.open("rb") as stream:
            lines.append(f"{digest_stream(stream)[0]} {path.relative_to(root)}")
    return sha256_hex("\n".join(lines).encode())


def _timed(say: Say, step: str, act: Callable[[], Result]) -> Result:
    started = time.monotonic()
    result = act()
    say(f"bundle: {step} ready after {time.monotonic() - started:.1f} s")
    return result
