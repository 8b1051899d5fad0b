"""Bring what a lock pins into the store: side by side, resumed, and every failure told at the end."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.download import Download
from controlplane.bundle.local import find_local
from controlplane.bundle.lock import Artefact
from controlplane.bundle.mirror import Mirror
from controlplane.bundle.progress import Progress
from controlplane.bundle.recipe import Python
from controlplane.bundle.store import BlobStore
from controlplane.bundle.wheels import fetch_wheels
from controlplane.kit.errors import RedoubtError, Unavailable

AT_ONCE = 8
RANKS = {"artefact_gone": 0, "artefact_altered": 1}  # what a person must act on comes first


@dataclass(frozen=True)
class Sources:
    """Where artefacts come from; `mirror` finds the mirror of an archive when one is needed."""

    mirror: Callable[[str], Mirror]
    folders: tuple[Path, ...]
    python: Python


@dataclass(frozen=True)
class Fetched:
    """How many artefacts came, and how many were here before."""

    came: int
    came_bytes: int
    here: int


def fetch_artefacts(artefacts: Iterable[Artefact], sources: Sources, store: BlobStore, progress: Progress) -> Fetched:
    """Make the store hold every artefact; raises Unavailable that names each one that did not come."""
    wanted = list({artefact.sha256: artefact for artefact in artefacts}.values())
    with store.lock():
        missing = [artefact for artefact in wanted if not store.has(artefact.sha256, artefact.size_bytes)]
        total_bytes = sum(artefact.size_bytes for artefact in missing)
        progress.start(f"fetch {len(missing)} artefacts", total_bytes)
        try:
            failures = _fetch_all(missing, sources, store, progress)
        finally:
            progress.end()
    if failures:
        raise _told(failures, len(missing))
    return Fetched(len(missing), total_bytes, len(wanted) - len(missing))


def _fetch_all(missing: list[Artefact], sources: Sources, store: BlobStore, progress: Progress) -> list[RedoubtError]:
    wheels = [artefact for artefact in missing if artefact.type == "wheel"]
    others = [artefact for artefact in missing if artefact.type != "wheel"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        brought = pool.submit(fetch_wheels, wheels, sources.python, store, progress.advance)
        tried = list(pool.map(lambda artefact: _try(artefact, sources, store, progress), others))
        return [error for error in tried if error] + brought.result()


def _try(artefact: Artefact, sources: Sources, store: BlobStore, progress: Progress) -> RedoubtError | None:
    try:
        _fetch(artefact, sources, store, progress)
    except RedoubtError as error:
        return error
    return None


def _fetch(artefact: Artefact, sources: Sources, store: BlobStore, progress: Progress) -> None:
    scheme, _, path = artefact.source.partition(":")
    if artefact.type == "deb":
        url = sources.mirror(scheme).url(scheme, path)
        wanted = Download(f"{artefact.name} {artefact.version}", url, artefact.sha256, artefact.size_bytes)
        store.fetch(wanted, progress.advance)
    else:
        store.add(find_local(artefact, sources.folders))
        progress.advance(artefact.size_bytes)


def _told(failures: list[RedoubtError], asked: int) -> Unavailable:
    ordered = sorted(failures, key=lambda error: RANKS.get(error.code, len(RANKS)))
    first = ordered[0]
    reasons = tuple(f"{error.detail} (next: {error.remedy})" for error in ordered)
    return Unavailable(
        f"{len(failures)} of {asked} artefacts did not come: {first.detail}",
        remedy=first.remedy,
        code=first.code,
        reasons=reasons,
    )
