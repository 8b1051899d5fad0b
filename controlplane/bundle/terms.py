"""On what terms a bundle is taken: who signed, until when, no older than what was here. Standard library alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from controlplane.bundle.archive import Head
from controlplane.bundle.contents import MANIFEST, SIGNATURES, TRUST, Contents, is_beside, read_contents
from controlplane.bundle.trust import (
    SignatureCheck,
    SignedRoot,
    newest_root,
    read_root,
    read_signatures,
    require_alive,
    require_signatures,
    timestamp,
)
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput, Refused

SHORTEST_REASON = 12


@dataclass(frozen=True)
class Platform:
    """What the nodes run, as the distribution spells it."""

    suite: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.suite} on {self.architecture}"


@dataclass(frozen=True)
class Terms:
    """`root` is the newest trusted here, `floor` the greatest ever accepted here, `accept` a reason to look away.

    `enough` is for whoever builds: a bundle that others have yet to sign needs fewer signatures than the root asks for.
    A reason lifts expiry and floor alone; it never lifts a signature, a digest or an expired root.
    """

    root: SignedRoot
    floor: int
    now: datetime
    platform: Platform | None = None
    accept: str = ""
    enough: int | None = None


@dataclass(frozen=True)
class Judged:
    """A manifest that is trusted; the files that it names are not read yet. `lifted` is what a reason overrode."""

    contents: Contents
    root: SignedRoot
    signers: tuple[str, ...]
    lifted: tuple[str, ...]


def judge(head: Head, terms: Terms, check: SignatureCheck) -> Judged:
    """Return what the head of a bundle says; raises Refused when it may not be trusted, with the reason."""
    for path in sorted(head.trust):
        if not is_beside(path):
            raise Refused(f"{path} does not belong into a bundle", remedy="carry it in again", code="bundle_altered")
    if SIGNATURES not in head.trust:
        raise Refused(
            "the bundle is not signed",
            remedy="have it signed: redoubt bundle sign BUNDLE --key FILE",
            code="bundle_not_signed",
        )
    roots = [read_root(raw, path) for path, raw in sorted(head.trust.items()) if path != SIGNATURES]
    _require_names(head, roots)
    newest = newest_root(terms.root, roots, check)
    others = [key for signed in (terms.root, *roots) for key in signed.root.keys]
    signatures = read_signatures(head.trust[SIGNATURES], SIGNATURES)
    signers = require_signatures(newest.root, others, sha256_hex(head.manifest), signatures, check, terms.enough)
    require_alive(newest.root, terms.now)
    contents = read_contents(head.manifest)
    _require_platform(contents, terms.platform)
    return Judged(contents, newest, signers, _lifted(contents, terms))


def _require_names(head: Head, roots: list[SignedRoot]) -> None:
    names = {f"{TRUST}root.{signed.root.version}.json" for signed in roots} | {SIGNATURES}
    if names != set(head.trust):
        raise Refused(f"{TRUST} holds a root under a wrong name", remedy="carry it in again", code="trust_altered")


def _require_platform(contents: Contents, wanted: Platform | None) -> None:
    carried = Platform(contents.suite, contents.architecture)
    if wanted and carried != wanted:
        raise Refused(
            f"the bundle is for {carried}, and the nodes are {wanted}",
            remedy="carry in the bundle that was built for these nodes",
            code="bundle_platform",
        )


def _lifted(contents: Contents, terms: Terms) -> tuple[str, ...]:
    faults = tuple(_faults(contents, terms))
    if faults and not terms.accept:
        raise Refused(
            f"{MANIFEST}: {faults[0]}",
            remedy="carry in a newer bundle; or take this one on record with --accept REASON",
            code="bundle_below_floor" if "floor" in faults[0] else "bundle_expired",
            reasons=faults,
        )
    if faults and len(terms.accept.strip()) < SHORTEST_REASON:
        raise BadInput(
            f"--accept needs a reason of at least {SHORTEST_REASON} letters",
            remedy="say why this bundle is taken all the same, for whoever reads the log",
        )
    return faults


def _faults(contents: Contents, terms: Terms) -> Iterator[str]:
    if contents.serial < terms.floor:
        yield f"its serial {contents.serial} is below the floor {terms.floor} of what was accepted here before"
    if terms.now >= contents.expires_at:
        yield f"it expired on {timestamp(contents.expires_at)}"
