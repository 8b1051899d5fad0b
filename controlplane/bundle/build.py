"""Build a bundle from a lock and the store: one signed folder of links, and one tar to carry in. No network."""

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from controlplane.bundle.archive import files_below, folder_head, pack_bundle
from controlplane.bundle.assemble import Laid, Parts, lay_out
from controlplane.bundle.contents import IN_RELEASE, MANIFEST
from controlplane.bundle.keys import BuilderKeys, builder_keys, clearsign
from controlplane.bundle.lock import Lock, digest_of
from controlplane.bundle.manifest import CarriedModel, Manifest, carry, to_bytes
from controlplane.bundle.memory import roots_in
from controlplane.bundle.progress import UNSEEN, Progress, watched
from controlplane.bundle.project import make_project
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.roots import counts
from controlplane.bundle.signing import first_trust, write_trust
from controlplane.bundle.store import BlobStore, alone
from controlplane.bundle.verify import Trust, verify_bundle
from controlplane.bundle.weights import find_models
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.errors import RedoubtError, Refused, Unavailable

Say = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Order:
    """What to build: a recipe of the wanted features and a lock that covers it.

    `archive` is the tar to write, none if there shall be none; `models` are folders with manifests and weights.
    """

    recipe: Recipe
    lock: Lock
    out: Path
    archive: Path | None
    project: Path
    cache: Path
    models: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Built:
    """A bundle on disk; `fresh` is false when it was already there, whole."""

    folder: Path
    archive: Path | None
    digest: str
    size_bytes: int
    fresh: bool


def build_bundle(order: Order, say: Say, progress: Progress = UNSEEN) -> Built:
    """Make `order.out` and its tar; what stands there already and is whole is left as it is."""
    order.out.parent.mkdir(parents=True, exist_ok=True)
    with alone(order.out.with_name(f".{order.out.name}.lock")), _room(order.out):
        _recover(order.out)
        if order.archive:
            _unfinished(order.archive).unlink(missing_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{order.out.name}.building-", dir=order.out.parent))
        try:
            return _build(order, scratch, say, progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _build(order: Order, scratch: Path, say: Say, progress: Progress) -> Built:
    store, folder = BlobStore(order.cache), scratch / "bundle"
    lock = order.lock.choose(order.recipe.features)
    _require_fetched(lock, store)
    models = find_models(order.models, order.recipe.models)
    keys = builder_keys(order.cache / "keys")
    project = _timed(say, "project", lambda: make_project(order.project, order.recipe, lock, order.cache))
    parts = Parts(order.recipe, lock, project, models, metadata.version("redoubt"))
    laid = _timed(say, "layout", lambda: lay_out(folder, parts, store))
    manifest = _timed(say, "digests", lambda: _seal(folder, parts, laid, store))
    digest = sha256_hex(to_bytes(manifest))
    trust = _own_trust(order, keys)
    if _stands(order, digest, trust):
        say(f"bundle: unchanged, digest {digest[:16]}")
        return Built(order.out, order.archive, digest, manifest.size_bytes, fresh=False)
    _sign(folder, laid, keys)
    say(f"bundle: laid out, {manifest.size_bytes / 1e6:.0f} MB, digest {digest[:16]}")
    packed = _timed(say, "tar", lambda: _pack(folder, order.archive, manifest.size_bytes, progress))
    _swap(folder, order.out, scratch)
    if packed and order.archive:
        packed.replace(order.archive)
    signers = verify_bundle(order.archive or order.out, trust).signers
    say(f"bundle: verified, {len(signers)} of {roots_in(keys.roots)[-1].root.threshold} signatures")
    return Built(order.out, order.archive, digest, manifest.size_bytes, fresh=True)


def _require_fetched(lock: Lock, store: BlobStore) -> None:
    missing = [artefact for artefact in lock.artefacts if not store.has(artefact.sha256, artefact.size_bytes)]
    if missing:
        raise Unavailable(
            f"{len(missing)} of {len(lock.artefacts)} artefacts are not in the store: {missing[0].name}",
            remedy="bring them: redoubt bundle fetch (with the same --feature, --lock and --cache)",
            code="artefact_not_fetched",
            reasons=tuple(f"{artefact.type} {artefact.name} {artefact.version}" for artefact in missing),
        )


def _seal(folder: Path, parts: Parts, laid: Laid, store: BlobStore) -> Manifest:
    """Write the manifest, which reads every byte; raises Refused when a file is not what the lock pins."""
    files = carry(folder, files_below(folder))
    found = {file.path: file.sha256 for file in files}
    damaged = {path: sha256 for path, sha256 in laid.expected.items() if found[path] != sha256}
    if damaged:
        raise _damaged(damaged, store)
    lock, terms = laid.lock, parts.recipe.trust
    manifest = Manifest(
        version=parts.version,
        serial=lock.serial,
        floor=terms.floor,
        created_at=lock.created_at,
        expires_at=lock.created_at + timedelta(days=terms.valid_days),
        suite=lock.distribution.suite,
        architecture=lock.distribution.architecture,
        lock=digest_of(lock),
        features=tuple(sorted(parts.recipe.features)),
        models=_sorted(parts.models),
        files=files,
    )
    (folder / MANIFEST).write_bytes(to_bytes(manifest))
    return manifest


def _sorted(models: dict[Path, CarriedModel]) -> tuple[CarriedModel, ...]:
    return tuple(sorted(models.values(), key=lambda model: model.name))


def _damaged(damaged: dict[str, str], store: BlobStore) -> Refused:
    for sha256 in damaged.values():
        store.drop(sha256)
    weights = [path for path in damaged if path.startswith("models/")]
    return Refused(
        f"{len(damaged)} files are not what was pinned: {next(iter(damaged))}",
        remedy="make or fetch the model again" if weights else "bring them again: redoubt bundle fetch; then repeat",
        code="artefact_altered",
        reasons=tuple(f"{path} does not have the SHA-256 {sha256[:16]}…" for path, sha256 in damaged.items()),
    )


def _own_trust(order: Order, keys: BuilderKeys) -> Trust:
    """Others may sign after the build: of ours there must be one signature, where the root lists us."""
    return Trust(order.cache, enough=1 if counts(load_signing_key(keys.signing), roots_in(keys.roots)[-1]) else 0)


def _stands(order: Order, digest: str, trust: Trust) -> bool:
    """Tell whether this very bundle is there, every byte of it, signed by a key that still counts."""
    try:
        forms = [order.out, *([order.archive] if order.archive else [])]
        return all(verify_bundle(form, trust).digest == digest for form in forms)
    except (OSError, RedoubtError):
        return False


def _sign(folder: Path, laid: Laid, keys: BuilderKeys) -> None:
    clearsign(keys, laid.release, folder / IN_RELEASE)
    write_trust(folder, first_trust(folder_head(folder), load_signing_key(keys.signing), roots_in(keys.roots)))


def _pack(folder: Path, archive: Path | None, size_bytes: int, progress: Progress) -> Path | None:
    """Write the tar beside its place: there is one copy of it, ever."""
    if archive is None:
        return None
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _unfinished(archive)
    try:
        with watched(progress, f"write {archive.name}", size_bytes) as advance:
            return pack_bundle(folder, unfinished, advance)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _unfinished(archive: Path) -> Path:
    return archive.with_name(f".{archive.name}.unfinished")


def _swap(folder: Path, out: Path, scratch: Path) -> None:
    if out.exists():
        out.rename(scratch / "before")
    folder.rename(out)


def _recover(out: Path) -> None:
    """Clear what a killed build left; a bundle that it had put aside and not replaced comes back."""
    for stale in sorted(out.parent.glob(f".{out.name}.building-*")):
        if (stale / "before").is_dir() and not out.exists():
            (stale / "before").rename(out)
        shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _room(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise Unavailable(
            f"the disk is full: {error.filename or out.parent}",
            remedy="free space, or put the tar elsewhere: --tar FILE; what stood before is untouched",
            code="disk_full",
        ) from None


def _timed(say: Say, step: str, act: Callable[[], Result]) -> Result:
    started = time.monotonic()
    result = act()
    say(f"bundle: {step} ready after {time.monotonic() - started:.1f} s")
    return result
