"""Take a bundle into a depot: whole and trusted, or not at all; the one before serves until then.

Standard library and kit alone: the depot's node runs this file too.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controlplane.bundle.archive import Placed
from controlplane.bundle.check import (
    altered,
    digest_file,
    folder_faults,
    release_faults,
    require_whole,
)
from controlplane.bundle.contents import IN_RELEASE, MANIFEST, Carried
from controlplane.bundle.depot_folder import DepotFolder
from controlplane.bundle.journal import Event
from controlplane.bundle.reader import Advance, Begin, Punch, unwatched
from controlplane.bundle.secret_scan import is_scanned, secret_in, secret_name
from controlplane.bundle.source import Source, opened_source
from controlplane.bundle.terms import Judged, Platform, Terms, judge
from controlplane.bundle.trust import SignatureCheck, SignedRoot
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import RedoubtError, Refused, Unavailable

SPARE_BYTES = 32 << 20  # for the journal, folders and whatever else the file system keeps for itself
AGAIN = "the import"


@dataclass(frozen=True)
class Asked:
    """What to take in where. `digest`, when given, is the one bundle that is expected.

    `parts` checks and returns the parts that the source is in; `begin` is told how far it is.
    `punch` gives the space of the tar back while it is read: only for a copy that nobody else needs.
    """

    source: Path
    depot: Path
    root: SignedRoot
    now: datetime
    who: str
    parts: Callable[[], Sequence[Path]] = tuple
    platform: Platform | None = None
    accept: str = ""
    digest: str = ""
    punch: Punch | None = None
    begin: Begin = unwatched


@dataclass(frozen=True)
class TakenIn:
    """`written_bytes` and `linked_bytes` say what was new and what an earlier bundle had already."""

    digest: str
    serial: int
    changed: bool
    written_bytes: int
    linked_bytes: int


def take_in(asked: Asked, check: SignatureCheck) -> TakenIn:
    """Make a bundle the depot's current one. Whatever goes wrong is in the journal, and nothing of it stays."""
    depot = DepotFolder(asked.depot)
    with depot.alone():
        depot.clean()
        digest = asked.digest
        try:
            with opened_source(asked.source, asked.parts(), asked.punch) as source:
                digest = sha256_hex(source.head.manifest)
                return _take(depot, source, asked, check)
        except RedoubtError as refusal:
            _give_up(depot, asked, digest, refusal.detail)
            raise
        except OSError as error:
            _give_up(depot, asked, digest, str(error))
            raise Unavailable(
                f"the bundle could not be written: {error.strerror or error}",
                remedy=f"make room at {asked.depot}, then repeat; the bundle before still serves",
                code="depot_disk",
            ) from None


def _give_up(depot: DepotFolder, asked: Asked, digest: str, why: str) -> None:
    depot.clean()
    event = Event(result=f"refused: {why}", source=asked.source.name, who=asked.who, digest=digest)
    try:
        depot.memory.journal.append(event, asked.now)
    except (OSError, RedoubtError):
        # A full disk or an altered journal: the reason that comes first is the one that is told.
        return


def _take(depot: DepotFolder, source: Source, asked: Asked, check: SignatureCheck) -> TakenIn:
    judged = _judged(depot, source, asked, check)
    contents = judged.contents
    if _stands(depot, source, asked, judged):
        changed = depot.current != depot.bundle(contents.digest)
        if changed or judged.lifted:
            _settle(depot, source, asked, judged)
        return TakenIn(
            contents.digest, contents.serial, changed=changed, written_bytes=0, linked_bytes=contents.size_bytes
        )
    written = _write(depot, source, asked, judged)
    depot.put_in_place(depot.incoming(contents.digest), contents.digest)
    _settle(depot, source, asked, judged)
    linked = contents.size_bytes - written
    return TakenIn(contents.digest, contents.serial, changed=True, written_bytes=written, linked_bytes=linked)


def _stands(depot: DepotFolder, source: Source, asked: Asked, judged: Judged) -> bool:
    """Tell whether this very bundle is there already, every byte of it."""
    standing, contents = depot.bundle(judged.contents.digest), judged.contents
    return standing.is_dir() and not folder_faults(standing, contents, source.head, asked.begin(contents.size_bytes))


def _judged(depot: DepotFolder, source: Source, asked: Asked, check: SignatureCheck) -> Judged:
    pinned = depot.memory.pinned(asked.root)
    terms = Terms(pinned, depot.memory.journal.floor(), asked.now, asked.platform, asked.accept)
    judged = judge(source.head, terms, check)
    if judged.root.root.version < asked.root.root.version:
        raise Refused(
            f"the bundle does not carry trust root {asked.root.root.version}, which is the newest known",
            remedy="have it signed under that root: redoubt bundle sign BUNDLE --root ROOT.json --key FILE",
            code="root_gap",
        )
    if asked.digest and judged.contents.digest != asked.digest:
        raise Refused(
            f"this is bundle {judged.contents.digest[:16]}… and not {asked.digest[:16]}…, which was asked for",
            remedy="render the inventory with the bundle that is carried in: redoubt site render",
            code="other_bundle",
        )
    return judged


def _settle(depot: DepotFolder, source: Source, asked: Asked, judged: Judged) -> None:
    """Record, then switch: after a stop in between the floor stands and the bundle before serves."""
    contents = judged.contents
    event = Event(
        result="accepted",
        source=source.name,
        who=asked.who,
        digest=contents.digest,
        serial=contents.serial,
        floor=contents.floor,
        root=judged.root.root.version,
        signers=judged.signers,
        reason=f"{asked.accept} ({'; '.join(judged.lifted)})" if judged.lifted else "",
    )
    depot.memory.keep(judged.root)
    depot.memory.journal.append(event, asked.now)
    depot.make_current(contents.digest)


@dataclass(frozen=True)
class _Work:
    """One import under way: where files come from, and where they go."""

    source: Source
    body: dict[str, Placed]
    known: dict[tuple[str, int], Path]
    target: Path
    advance: Advance


def _write(depot: DepotFolder, source: Source, asked: Asked, judged: Judged) -> int:
    """Bring every file below the incoming folder; return how many bytes were new."""
    contents, target = judged.contents, depot.incoming(judged.contents.digest)
    work = _Work(source, source.body(contents), depot.known_files(), target, asked.begin(contents.size_bytes))
    names = [found for file in contents.files if (found := secret_name(file.path))]
    _require_no_secret(names)
    _require_base(work, judged)
    _require_room(work, asked, judged)
    _make_folders(target, contents.files)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        written = list(pool.map(lambda file: _bring(work, file), contents.files))
    _write_head(target, source)
    require_whole(release_faults(contents, source.head, lambda f: (target / f.path).read_bytes()), source.name, AGAIN)
    subprocess.run(["sync", "--file-system", str(target)], check=True, capture_output=True)
    return sum(written)


def _require_base(work: _Work, judged: Judged) -> None:
    """A delta needs its base, and from it what it does not carry."""
    delta = work.source.delta
    if delta is None:
        return
    carried = {file.path for file in work.source.carried(judged.contents)}
    lacks = [f for f in judged.contents.files if f.path not in carried and (f.sha256, f.size_bytes) not in work.known]
    if lacks or not work.target.with_name(delta.base).is_dir():
        raise Refused(
            f"the delta stands on bundle {delta.base[:16]}…, which is not here as a whole",
            remedy="carry that bundle in first, or the whole bundle instead of the delta",
            code="base_missing",
            reasons=tuple(f"{file.path} is missing" for file in lacks),
        )


def _require_room(work: _Work, asked: Asked, judged: Judged) -> None:
    fresh = [f.size_bytes for f in judged.contents.files if (f.sha256, f.size_bytes) not in work.known]
    # With punching, what is written was given back before, but for the files that are under way.
    need = SPARE_BYTES + (sum(sorted(fresh)[-(os.cpu_count() or 1) :]) if asked.punch else sum(fresh))
    space = os.statvfs(asked.depot)
    have = space.f_bavail * space.f_frsize
    if need > have:
        raise Refused(
            f"the bundle needs {need / 1e6:.0f} MB more at {asked.depot}, and {have / 1e6:.0f} MB are free",
            remedy="make room there, then repeat; the bundle before still serves",
            code="depot_disk",
        )


def _make_folders(target: Path, files: tuple[Carried, ...]) -> None:
    parents = {Path(file.path).parent for file in files} | {Path(IN_RELEASE).parent, Path("trust")}
    for folder in sorted({folder for parent in parents for folder in (parent, *parent.parents)}):
        (target / folder).mkdir(exist_ok=True)
        (target / folder).chmod(0o755)


def _bring(work: _Work, file: Carried) -> int:
    """Link a file that is here already, or write it; return the bytes written."""
    have = work.known.get((file.sha256, file.size_bytes))
    target = work.target / file.path
    if have and _is_intact(have, file):
        os.link(have, target)
        work.advance(file.size_bytes)
        _forget(work, file)
        return 0
    return _copy(work, file, target)


def _is_intact(path: Path, file: Carried) -> bool:
    try:
        return path.stat().st_size == file.size_bytes and digest_file(path, file.size_bytes) == file.sha256
    except OSError:
        return False


def _copy(work: _Work, file: Carried, target: Path) -> int:
    digest, text = hashlib.sha256(), bytearray()
    with target.open("xb") as out:
        for piece in work.source.pieces(file, work.body):
            digest.update(piece)
            out.write(piece)
            work.advance(len(piece))
            if is_scanned(file.size_bytes):
                text += piece
    target.chmod(0o644)
    if digest.hexdigest() != file.sha256:
        require_whole([altered(file, digest.hexdigest())], work.source.name, AGAIN)
    _require_no_secret([found] if (found := secret_in(file.path, bytes(text))) else [])
    _forget(work, file)
    return file.size_bytes


def _forget(work: _Work, file: Carried) -> None:
    if work.source.tar is not None and file.path in work.body:
        work.source.tar.forget(work.body[file.path].data_at, file.size_bytes)


def _require_no_secret(found: list[str]) -> None:
    if found:
        raise Refused(
            found[0],
            remedy="build the bundle without it, and treat the secret as known to others",
            code="secret_found",
            reasons=tuple(found),
        )


def _write_head(target: Path, source: Source) -> None:
    head = source.head
    files = {MANIFEST: head.manifest, **head.trust, **({IN_RELEASE: head.in_release} if head.in_release else {})}
    for path, content in files.items():
        (target / path).write_bytes(content)
        (target / path).chmod(0o644)
