"""Make a lock: choose every artefact of a recipe, pin it by digest, and say what changed."""

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controlplane.bundle.deb import licence_of
from controlplane.bundle.fetch import Sources, fetch_artefacts
from controlplane.bundle.local import check_inside, find_named
from controlplane.bundle.lock import Artefact, Index, Lock, LockedDistribution
from controlplane.bundle.mirror import Indexes, read_indexes
from controlplane.bundle.progress import Progress
from controlplane.bundle.recipe import BASE, Recipe
from controlplane.bundle.relations import Package
from controlplane.bundle.resolve import Catalogue, Resolver
from controlplane.bundle.store import BlobStore
from controlplane.bundle.wheels import (
    Pin,
    download_pins,
    normal,
    pinned_names,
    place_wheels,
    read_pins,
    resolve_extras,
    wheel_licence,
    wheel_names,
)
from controlplane.kit.errors import Refused

Say = Callable[[str], None]
PENDING = "?"  # until the package has been read


@dataclass(frozen=True)
class LockOrder:
    """What to lock. `before` is the lock that the new one follows."""

    recipe: Recipe
    keyring: Path
    pins: Path
    project: Path
    sources: Sources
    before: Lock | None
    now: datetime


@dataclass(frozen=True)
class Change:
    """What a new lock has that the one before had not, by artefact; `was` or `now` is empty when it came or went."""

    type: str
    name: str
    was: str
    now: str


def make_lock(order: LockOrder, store: BlobStore, progress: Progress, say: Say) -> Lock:
    """Return the lock of a recipe; the one before, when nothing moved."""
    main = order.recipe.distribution.archives[0].name
    with store.lock():
        offered = read_indexes(
            order.recipe.distribution, order.sources.mirror(main), store, keyring=order.keyring, now=order.now
        )
    for suite in offered.absent:
        say(f"lock: WARNING: the mirror has no {suite}, so nothing of it is in the lock")
    debs = _lock_debs(order.recipe, offered)
    wheels = _lock_wheels(order, store)
    local = _lock_local(order)
    debs = _with_licences(debs, order, store, progress)
    return _numbered(order, offered.indexes, (*debs, *wheels, *local))


def changes(before: Lock | None, after: Lock) -> list[Change]:
    """Return what was added, removed or moved to another version."""
    was = {artefact.key: artefact for artefact in before.artefacts} if before else {}
    now = {artefact.key: artefact for artefact in after.artefacts}
    return [
        Change(*key, was[key].version if key in was else "", now[key].version if key in now else "")
        for key in sorted({*was, *now})
        if key not in was or key not in now or was[key].sha256 != now[key].sha256
    ]


def _numbered(order: LockOrder, indexes: tuple[Index, ...], artefacts: tuple[Artefact, ...]) -> Lock:
    distribution = order.recipe.distribution
    lock = Lock(
        serial=order.before.serial if order.before else 1,
        created_at=order.before.created_at if order.before else order.now,
        recipe=order.recipe.digest,
        distribution=LockedDistribution(
            suite=distribution.suite, architecture=distribution.architecture, indexes=indexes
        ),
        artefacts=tuple(sorted(artefacts, key=lambda artefact: artefact.key)),
    )
    if order.before is None or lock == order.before:
        return lock
    return lock.model_copy(update={"serial": order.before.serial + 1, "created_at": order.now})


def _lock_debs(recipe: Recipe, offered: Indexes) -> list[Artefact]:
    catalogue = Catalogue(offered.packages)
    roots = {name: feature.debs for name, feature in recipe.features.items()}
    roots[BASE] = (*catalogue.essential(), *roots.get(BASE, ()))
    resolver = Resolver(catalogue)
    chosen = resolver.resolve(roots)
    reached = {name: resolver.reach(names, chosen) for name, names in roots.items()}
    return [
        _deb(package, tuple(sorted(feature for feature, names in reached.items() if package.name in names)))
        for package in chosen.values()
    ]


def _deb(package: Package, needed_by: tuple[str, ...]) -> Artefact:
    path = package.fields["Filename"]
    return Artefact(
        type="deb",
        name=package.name,
        version=package.version,
        # Without the epoch, as in the archive: a colon in a file name is ambiguous in a URL.
        filename=path.rpartition("/")[2],
        source=f"{package.archive}:{path}",
        size_bytes=int(package.fields["Size"]),
        sha256=package.fields["SHA256"],
        needed_by=needed_by,
        licence=PENDING,
    )


def _with_licences(debs: list[Artefact], order: LockOrder, store: BlobStore, progress: Progress) -> list[Artefact]:
    """Read the licences of packages that the lock before did not have, which brings them into the store."""
    known = {artefact.sha256: artefact.licence for artefact in order.before.artefacts} if order.before else {}
    fresh = [deb for deb in debs if deb.sha256 not in known]
    fetch_artefacts(fresh, order.sources, store, progress)
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda deb: licence_of(store.path(deb.sha256), deb.name), fresh)
        known |= {deb.sha256: licence for deb, licence in zip(fresh, read, strict=True)}
    return [deb.model_copy(update={"licence": known[deb.sha256]}) for deb in debs]


def _lock_wheels(order: LockOrder, store: BlobStore) -> list[Artefact]:
    pins = read_pins(order.pins)
    wheels = _known_wheels(pins, order, store) or _chosen_wheels(pins, order, store)
    with tempfile.TemporaryDirectory(prefix="redoubt-wheels-") as scratch:
        place_wheels(wheels, store, Path(scratch))
        resolved = resolve_extras(Path(scratch), order.recipe.python, order.project, order.recipe.extras)
    names = {extra: pinned_names(text) for extra, text in resolved.items()}
    needed_by = {
        feature: set().union(*(names[extra] for extra in asked.extras))
        for feature, asked in order.recipe.features.items()
    }
    return [_needed(wheel, needed_by) for wheel in wheels]


def _needed(wheel: Artefact, needed_by: dict[str, set[str]]) -> Artefact:
    features = tuple(sorted(feature for feature, names in needed_by.items() if wheel.name in names))
    return wheel.model_copy(update={"needed_by": features})


def _known_wheels(pins: list[Pin], order: LockOrder, store: BlobStore) -> list[Artefact]:
    """Return the wheels of the lock before when it has one for every pin, and the store has all of them."""
    known = {(wheel.name, wheel.version): wheel for wheel in order.before.of("wheel")} if order.before else {}
    found = [known.get((normal(pin.name), pin.version)) for pin in pins]
    kept = [wheel for pin, wheel in zip(pins, found, strict=True) if wheel and wheel.sha256 in pin.hashes]
    whole = len(kept) == len(pins) and all(store.has(wheel.sha256, wheel.size_bytes) for wheel in kept)
    return kept if whole else []


def _chosen_wheels(pins: list[Pin], order: LockOrder, store: BlobStore) -> list[Artefact]:
    with tempfile.TemporaryDirectory(prefix="redoubt-wheels-") as scratch:
        paths = download_pins(Path(scratch), pins, order.recipe.python)
        wheels = [_wheel(path, store) for path in paths]
    missing = {normal(pin.name) for pin in pins} - {wheel.name for wheel in wheels}
    if missing:
        raise Refused(f"no wheel was chosen for {', '.join(sorted(missing))}", remedy="run `make lock`, then lock anew")
    return wheels


def _wheel(path: Path, store: BlobStore) -> Artefact:
    name, version = wheel_names(path)
    return Artefact(
        type="wheel",
        name=name,
        version=version,
        filename=path.name,
        source=f"pypi:{name}/{version}",
        size_bytes=path.stat().st_size,
        sha256=store.add(path),
        needed_by=(),
        licence=wheel_licence(path),
    )


def _lock_local(order: LockOrder) -> list[Artefact]:
    before = {artefact.key: artefact for artefact in order.before.artefacts} if order.before else {}
    found = []
    for name, wanted in order.recipe.local.items():
        features = tuple(sorted(f for f, feature in order.recipe.features.items() if name in feature.local))
        known = before.get((wanted.type, name))
        if known and known.version == wanted.version and not order.sources.folders:
            found.append(known.model_copy(update={"needed_by": features, "licence": wanted.licence}))
            continue
        path = find_named(wanted.filename, order.sources.folders)
        check_inside(wanted.type, path)
        found.append(_local(name, path, order, features))
    return found


def _local(name: str, path: Path, order: LockOrder, features: tuple[str, ...]) -> Artefact:
    wanted = order.recipe.local[name]
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Artefact(
        type=wanted.type,
        name=name,
        version=wanted.version,
        filename=path.name,
        source=f"local:{name}",
        size_bytes=path.stat().st_size,
        sha256=sha256,
        needed_by=features,
        licence=wanted.licence,
    )
