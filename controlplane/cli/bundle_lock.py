"""redoubt bundle lock, list, fetch: what a bundle is made of, pinned, shown and brought in."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.cover import require_cover
from controlplane.bundle.fetch import Sources, fetch_artefacts
from controlplane.bundle.lock import Kind, Lock, read_lock, to_text
from controlplane.bundle.locking import Change, LockOrder, changes, make_lock
from controlplane.bundle.mirror import choose_mirror
from controlplane.bundle.recipe import Recipe, choose_features, read_recipe
from controlplane.bundle.store import BlobStore
from controlplane.cli.progress import ProgressLine
from controlplane.cli.screen import Json, note, say, show, show_json
from controlplane.kit.clock import SystemClock

DEFAULT_CACHE = Path("~/.cache/redoubt")
RECIPE = Path("images/bundle.toml")
PINS = Path("locks/node.lock")

RecipeFile = Annotated[Path, typer.Option("--features", help="The recipe.")]
LockFile = Annotated[Path | None, typer.Option("--lock", help="The lock; default: beside the recipe.")]
Pins = Annotated[Path, typer.Option("--locks", help="Lock of the nodes' Python packages.")]
Project = Annotated[Path, typer.Option("--project", help="Sources of the product.")]
Only = Annotated[list[str] | None, typer.Option("--feature", help="Take this feature and the base; default: all.")]
From = Annotated[list[Path] | None, typer.Option("--from", help="Folder with artefacts that no index has.")]
MirrorUrl = Annotated[
    str | None,
    typer.Option("--mirror", envvar="REDOUBT_MIRROR", help="URL of the mirror; default: that of the apt sources."),
]
Cache = Annotated[Path, typer.Option("--cache", envvar="REDOUBT_CACHE", help="Cache; holds store and keys.")]


def lock(
    features: RecipeFile = RECIPE,
    lock_file: LockFile = None,
    locks: Pins = PINS,
    folders: From = None,
    project: Project = Path(),
    mirror: MirrorUrl = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Pin every artefact of the recipe by digest, from verified indexes, and say what changed."""
    started = time.monotonic()
    recipe, path = read_recipe(features), lock_path(features, lock_file)
    before = read_lock(path) if path.exists() else None
    order = LockOrder(
        recipe=recipe,
        keyring=features.parent / recipe.distribution.keyring,
        pins=locks,
        project=project.resolve(),
        sources=sources(recipe, mirror, folders),
        before=before,
        now=SystemClock().now().replace(microsecond=0),
    )
    after = make_lock(order, BlobStore(cache.expanduser()), ProgressLine(), note)
    if after != before:
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(to_text(after))
        fresh.replace(path)
    _show_lock(path, after, changes(before, after), time.monotonic() - started, as_json=as_json)


def list_artefacts(
    features: RecipeFile = RECIPE,
    lock_file: LockFile = None,
    locks: Pins = PINS,
    kind: Annotated[Kind | None, typer.Option("--type", help="Show this type alone.")] = None,
    feature: Only = None,
    as_json: Json = False,
) -> None:
    """Show what the lock pins."""
    recipe = choose_features(read_recipe(features), tuple(feature or ()))
    pinned = covering_lock(recipe, lock_path(features, lock_file), locks).choose(recipe.features)
    found = [artefact for artefact in pinned.artefacts if kind in {None, artefact.type}]
    totals = {"artefacts": len(found), "size_bytes": sum(artefact.size_bytes for artefact in found)}
    if as_json:
        show_json({**totals, "serial": pinned.serial, "rows": [artefact.model_dump(mode="json") for artefact in found]})
        return
    columns = (("type", "type"), ("name", "name"), ("version", "version"), ("bytes", "size_bytes"))
    show(found, (*columns, ("licence", "licence"), ("needed by", "needed_by")), as_json=False, empty="nothing")
    say(f"{totals['artefacts']} artefacts, {totals['size_bytes'] / 1e6:.1f} MB, lock {pinned.serial}")


def fetch(
    features: RecipeFile = RECIPE,
    lock_file: LockFile = None,
    locks: Pins = PINS,
    feature: Only = None,
    folders: From = None,
    mirror: MirrorUrl = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Bring every pinned artefact into the store; goes on where it stopped."""
    started = time.monotonic()
    recipe = choose_features(read_recipe(features), tuple(feature or ()))
    pinned = covering_lock(recipe, lock_path(features, lock_file), locks).choose(recipe.features)
    store = BlobStore(cache.expanduser())
    done = fetch_artefacts(pinned.artefacts, sources(recipe, mirror, folders), store, ProgressLine())
    if as_json:
        seconds = round(time.monotonic() - started, 1)
        show_json({"came": done.came, "came_bytes": done.came_bytes, "here": done.here, "seconds": seconds})
    else:
        say(f"fetched {done.came} artefacts, {done.came_bytes / 1e6:.1f} MB; {done.here} were here")


def lock_path(recipe: Path, named: Path | None) -> Path:
    """Return the lock that was named, else the one beside the recipe."""
    return named or recipe.with_suffix(".lock")


def covering_lock(recipe: Recipe, path: Path, pins: Path) -> Lock:
    """Read a lock that has all the recipe asks for; raises BadInput or Refused."""
    pinned = read_lock(path)
    require_cover(pinned, recipe, pins)
    return pinned


def sources(recipe: Recipe, mirror: str | None, folders: list[Path] | None) -> Sources:
    """Return where this machine gets artefacts from."""
    return Sources(partial(choose_mirror, mirror), tuple(folders or ()), recipe.python)


def _show_lock(path: Path, after: Lock, changed: list[Change], seconds: float, *, as_json: bool) -> None:
    size_bytes = sum(artefact.size_bytes for artefact in after.artefacts)
    if as_json:
        rows = [vars(change) for change in changed]
        facts = {"lock": str(path), "serial": after.serial, "artefacts": len(after.artefacts), "size_bytes": size_bytes}
        show_json({**facts, "changes": rows, "seconds": round(seconds, 1)})
        return
    for change in changed:
        say(f"  {_verb(change)} {change.type} {change.name} {' -> '.join(filter(None, (change.was, change.now)))}")
    count = f"{len(after.artefacts)} artefacts, {size_bytes / 1e6:.1f} MB"
    say(f"{path}: lock {after.serial}, {count}, {len(changed)} changes, {seconds:.1f} s")


def _verb(change: Change) -> str:
    if not change.was:
        return "added   "
    return "moved   " if change.now else "removed "
