"""Verify a bundle, as a folder or as the tar that is carried in: every byte, before anything trusts it."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from controlplane.bundle.archive import Head, folder_head, require_no_parts, tar_head
from controlplane.bundle.armour import one_block
from controlplane.bundle.check import folder_faults, require_whole, tar_faults
from controlplane.bundle.delta_list import refuse_delta
from controlplane.bundle.journal import Event
from controlplane.bundle.manifest import Manifest
from controlplane.bundle.memory import Memory, roots_in
from controlplane.bundle.progress import UNSEEN, Progress, watched
from controlplane.bundle.reader import Reader, opened
from controlplane.bundle.roots import is_good_signature
from controlplane.bundle.terms import Judged, Platform, Terms, judge
from controlplane.bundle.trust import SignedRoot, read_root, root_bytes
from controlplane.kit.clock import Clock, SystemClock
from controlplane.kit.errors import BadInput, Refused

PLATFORM = Platform("trixie", "amd64")  # what the roles install on


@dataclass(frozen=True)
class Trust:
    """What a workstation trusts: `root` is a file, by default the builder's own in `cache`, which also remembers.

    `enough` is for whoever builds: how many signatures are wanted of a bundle that others have yet to sign.
    `accept` is a reason to take a bundle that is expired or below the floor; `platform` is what the nodes run.
    """

    cache: Path
    root: Path | None = None
    accept: str = ""
    platform: Platform | None = None
    enough: int | None = None
    clock: Clock = field(default_factory=SystemClock)
    progress: Progress = UNSEEN


@dataclass(frozen=True)
class Verified:
    """A bundle that may be trusted; after `verify_bundle` its every byte is the one that was signed.

    `reason` is the one given for a bundle that is expired or below the floor; `lifted` says which.
    """

    manifest: Manifest
    digest: str
    root: SignedRoot
    signers: tuple[str, ...]
    lifted: tuple[str, ...]
    reason: str = ""

    @property
    def apt_key(self) -> str:
        """The OpenPGP keys that may sign the package repository, as one armoured block."""
        return one_block(self.root.root.apt_keys)

    @property
    def root_text(self) -> str:
        return root_bytes(self.root).decode()


def inspect_bundle(path: Path, trust: Trust) -> Verified:
    """Check signatures, expiry and floor alone and return the manifest; raises BadInput or Refused."""
    memory, given = _memory(trust)
    with _opened(path) as (head, _):
        return _verified(head, _judged(head, trust, memory, given), trust)


def verify_bundle(path: Path, trust: Trust) -> Verified:
    """Check signatures, expiry, floor and every file; raises Refused that names each file that differs."""
    memory, given = _memory(trust)
    with _opened(path) as (head, tar):
        refuse_delta(head.delta, path)
        judged = _judged(head, trust, memory, given)
        with watched(trust.progress, f"verify {path.name}", judged.contents.size_bytes) as advance:
            if tar is None:
                faults = folder_faults(path, judged.contents, head, advance)
            else:
                faults = tar_faults(tar, judged.contents, head, advance)
        require_whole(faults, path.name, f"redoubt bundle verify {path}")
        verified = _verified(head, judged, trust)
    if trust.enough is None:  # a bundle that is still being signed leaves no trace
        _remember(path, judged, trust, memory)
    return verified


def overrides_of(digest: str, trust: Trust) -> tuple[str, ...]:
    """Return the reasons on record for which this bundle was taken although it was expired or below the floor."""
    memory, _ = _memory(trust)
    found = [entry for entry in memory.journal.entries() if entry["digest"] == digest and entry["reason"]]
    return tuple(f"{entry['at']} {entry['who']}: {entry['reason']}" for entry in found)


def read_root_file(path: Path) -> SignedRoot:
    """Read a trust root; raises BadInput when there is none at that path."""
    try:
        return read_root(path.read_bytes(), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{path} does not exist", remedy="name the trust root of the signers: --root FILE") from None


def given_root(trust: Trust) -> SignedRoot:
    """Return the root that this workstation pins: the one named, or the builder's own."""
    return read_root_file(trust.root) if trust.root else _own_root(trust.cache)


def _memory(trust: Trust) -> tuple[Memory, SignedRoot]:
    """Return what this workstation remembers of the chain that the given root belongs to."""
    given = given_root(trust)
    base = trust.cache / "trust"
    for folder in sorted(base.iterdir()) if base.is_dir() else []:
        if any(known.digest == given.digest for known in roots_in(folder)):
            return Memory(folder, folder / "journal.log"), given
    folder = base / given.digest[:16]
    return Memory(folder, folder / "journal.log"), given


def _own_root(cache: Path) -> SignedRoot:
    roots = roots_in(cache / "keys" / "trust")
    if not roots:
        raise BadInput(
            f"no trust root lies in {cache / 'keys' / 'trust'}",
            remedy="name the trust root of those who sign the bundle: --root FILE",
        )
    return roots[-1]


def _judged(head: Head, trust: Trust, memory: Memory, given: SignedRoot) -> Judged:
    pinned = memory.pinned(given)
    terms = Terms(pinned, memory.journal.floor(), trust.clock.now(), trust.platform, trust.accept, trust.enough)
    return judge(head, terms, is_good_signature)


def _verified(head: Head, judged: Judged, trust: Trust) -> Verified:
    try:
        manifest = Manifest.model_validate_json(head.manifest)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(
            f"bundle.json is of another version of this product: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            remedy="use the version that built it, or build it again with this one: redoubt bundle build",
            code="bundle_shape",
        ) from None
    reason = trust.accept if judged.lifted else ""
    return Verified(manifest, judged.contents.digest, judged.root, judged.signers, judged.lifted, reason)


def _remember(path: Path, judged: Judged, trust: Trust, memory: Memory) -> None:
    """Keep root and floor; a bundle that is known already and overrides nothing leaves no second line."""
    memory.keep(judged.root)
    contents = judged.contents
    known = any(entry["digest"] == contents.digest for entry in memory.journal.entries())
    if known and not judged.lifted:
        return
    event = Event(
        result="accepted",
        source=path.name,
        who=pwd.getpwuid(os.getuid()).pw_name,
        digest=contents.digest,
        serial=contents.serial,
        floor=contents.floor,
        root=judged.root.root.version,
        signers=judged.signers,
        reason=f"{trust.accept} ({'; '.join(judged.lifted)})" if judged.lifted else "",
    )
    memory.journal.append(event, trust.clock.now())


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Head, Reader | None]]:
    if path.is_dir():
        yield folder_head(path), None
    elif path.is_file():
        require_no_parts(path)
        with opened([path]) as tar:
            yield tar_head(tar, path.name), tar
    else:
        raise BadInput(f"{path} does not exist", remedy="build it: redoubt bundle build --out FOLDER")
