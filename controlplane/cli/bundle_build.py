"""redoubt bundle build: from a lock and the store to a signed folder and one tar, without a network."""

import time
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.build import Built, Order, build_bundle
from controlplane.bundle.recipe import choose_features, read_recipe
from controlplane.cli.bundle_closure import refuse_open_sites
from controlplane.cli.bundle_lock import (
    DEFAULT_CACHE,
    PINS,
    RECIPE,
    Cache,
    LockFile,
    Only,
    Pins,
    Project,
    RecipeFile,
    covering_lock,
    lock_path,
)
from controlplane.cli.progress import ProgressLine
from controlplane.cli.screen import Json, note, say, show_json

Models = Annotated[list[Path] | None, typer.Option("--models", help="Folder with weights and manifests.")]
Tar = Annotated[Path | None, typer.Option("--tar", help="The tar; default: beside the folder.")]
FolderOnly = Annotated[bool, typer.Option("--folder-only", help="Write no tar.")]
Closures = Annotated[
    list[Path] | None, typer.Option("--closure", help="Build only if this site needs no more than the bundle holds.")
]


def build(
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    features: RecipeFile = RECIPE,
    lock_file: LockFile = None,
    locks: Pins = PINS,
    models: Models = None,
    feature: Only = None,
    tar: Tar = None,
    folder_only: FolderOnly = False,
    closure: Closures = None,
    project: Project = Path(),
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Build and sign a bundle of what is locked and fetched; the same lock and sources give the same digest."""
    started = time.monotonic()
    recipe = choose_features(read_recipe(features), tuple(feature or ()))
    out, lock = out.resolve(), covering_lock(recipe, lock_path(features, lock_file), locks)
    refuse_open_sites(closure or (), lock, project)
    order = Order(
        recipe=recipe,
        lock=lock,
        out=out,
        archive=None if folder_only else (tar or out.with_name(f"{out.name}.tar")).resolve(),
        project=project.resolve(),
        cache=cache.expanduser(),
        models=tuple(models or ()),
    )
    _show(build_bundle(order, note, ProgressLine()), time.monotonic() - started, as_json=as_json)


def _show(built: Built, seconds: float, *, as_json: bool) -> None:
    if as_json:
        facts = {"folder": str(built.folder), "archive": built.archive and str(built.archive), "digest": built.digest}
        show_json({**facts, "size_bytes": built.size_bytes, "changed": built.fresh, "seconds": round(seconds, 1)})
    else:
        say(f"{built.archive or built.folder}: {built.size_bytes / 1e6:.0f} MB, digest {built.digest}")
