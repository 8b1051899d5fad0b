"""Who may sign bundles: a root of keys, n of m, and the chain in which one root hands over to the next.

Standard library and kit alone: the depot's node runs this file before anything of the product is installed there.
"""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any  # JSON has no narrower type

from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import Refused

ROOT_FORMAT = 1
ROOT_DOMAIN = b"redoubt trust root 1\n"
BUNDLE_DOMAIN = b"redoubt bundle 2\n"
ROOT_FIELDS = {"format", "version", "expires_at", "threshold", "keys", "apt_keys"}

SignatureCheck = Callable[[bytes, bytes, bytes], bool]
"""(raw public key, message, signature) -> whether the signature is good."""


@dataclass(frozen=True)
class TrustKey:
    """One person's Ed25519 key; `public` is base64, `id` the start of its SHA-256."""

    id: str
    name: str
    public: str


@dataclass(frozen=True)
class Signature:
    """`signature` is base64."""

    key_id: str
    signature: str


@dataclass(frozen=True)
class Root:
    """Whose signatures count, how many are needed, and with which OpenPGP keys the package repository is signed."""

    version: int
    expires_at: datetime
    threshold: int
    keys: tuple[TrustKey, ...]
    apt_keys: tuple[str, ...]


@dataclass(frozen=True)
class SignedRoot:
    root: Root
    signatures: tuple[Signature, ...]

    @property
    def digest(self) -> str:
        return sha256_hex(root_message(self.root))


def key_id(public: bytes) -> str:
    """Return the id of a raw public key."""
    return sha256_hex(public)[:16]


def timestamp(at: datetime) -> str:
    """Return the one text form of a time in UTC."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def bundle_message(digest: str) -> bytes:
    """Return what is signed for the bundle of this digest."""
    return BUNDLE_DOMAIN + digest.encode()


def root_message(root: Root) -> bytes:
    """Return what is signed for a root."""
    return ROOT_DOMAIN + canonical_json(_root_json(root))


def root_bytes(signed: SignedRoot) -> bytes:
    """Return the one byte form of a root file."""
    signatures = [vars(signature) for signature in signed.signatures]
    return canonical_json({"root": _root_json(signed.root), "signatures": signatures}) + b"\n"


def signatures_bytes(signatures: Iterable[Signature]) -> bytes:
    """Return the one byte form of the signatures of a bundle."""
    return canonical_json([vars(signature) for signature in signatures]) + b"\n"


def read_root(raw: bytes, name: str) -> SignedRoot:
    """Parse a root file; raises Refused when it is not exactly what `root_bytes` writes."""
    try:
        value = json.loads(raw)
        signed = SignedRoot(_root(value["root"]), tuple(Signature(**entry) for entry in value["signatures"]))
        if root_bytes(signed) != raw:
            raise ValueError("it is not in its canonical form")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _altered(name, error) from None
    return signed


def read_signatures(raw: bytes, name: str) -> tuple[Signature, ...]:
    """Parse the signatures of a bundle, as strictly."""
    try:
        signatures = tuple(Signature(**entry) for entry in json.loads(raw))
        if signatures_bytes(signatures) != raw:
            raise ValueError("it is not in its canonical form")
    except (ValueError, TypeError, AttributeError) as error:
        raise _altered(name, error) from None
    return signatures


def newest_root(pinned: SignedRoot, carried: Sequence[SignedRoot], check: SignatureCheck) -> SignedRoot:
    """Walk from the pinned root over those that the bundle carries to the newest; raises Refused at a broken link."""
    roots = sorted(carried, key=lambda signed: signed.root.version)
    for signed in (pinned, *roots):
        _require_root_signatures(signed, signed.root, (), check)
    for before, after in pairwise(roots):
        _require_next(before, after, check)
    for signed in roots:
        if signed.root.version == pinned.root.version and signed.digest != pinned.digest:
            raise Refused(
                f"the bundle is signed under another root: its root {signed.root.version} is not the one trusted here",
                remedy="carry in a bundle of this site's signers, or name the root that you trust: --root FILE",
                code="root_unknown",
            )
    later = [signed for signed in roots if signed.root.version > pinned.root.version]
    if later:
        _require_next(pinned, later[0], check)
    return later[-1] if later else pinned


def require_alive(root: Root, now: datetime) -> None:
    """Raises Refused when a root is past its day; nothing overrides that."""
    if now >= root.expires_at:
        raise Refused(
            f"trust root {root.version} expired on {timestamp(root.expires_at)}",
            remedy="its signers make the next one: redoubt bundle trust rotate; then sign the bundle under it",
            code="root_expired",
        )


def require_signatures(
    root: Root,
    others: Iterable[TrustKey],
    digest: str,
    signatures: Sequence[Signature],
    check: SignatureCheck,
    enough: int | None = None,
) -> tuple[str, ...]:
    """Return the names of those who signed; raises Refused when they are too few or a signature is wrong."""
    verdict = _judge(bundle_message(digest), signatures, root.keys, tuple(others), check)
    if verdict.wrong or len(verdict.good) < (root.threshold if enough is None else enough):
        raise Refused(
            f"the bundle has {len(verdict.good)} of the {root.threshold} signatures that trust root {root.version} "
            f"asks for ({verdict.words})",
            remedy="have it signed: redoubt bundle sign BUNDLE --key FILE; or carry the bundle in again",
            code="bundle_not_signed",
            reasons=verdict.wrong,
        )
    return verdict.good


@dataclass(frozen=True)
class _Verdict:
    good: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def words(self) -> str:
        return "; ".join([f"good: {', '.join(self.good) or 'none'}", *self.wrong])


def _judge(
    message: bytes,
    signatures: Sequence[Signature],
    counted: Sequence[TrustKey],
    others: Sequence[TrustKey],
    check: SignatureCheck,
) -> _Verdict:
    """Hold each signature against its key. One that is wrong spoils all: a bundle is whole or it is not."""
    known = {key.id: key for key in (*others, *counted)}
    counts = {key.id for key in counted}
    good: dict[str, str] = {}
    wrong: list[str] = []
    for entry in signatures:
        key = known.get(entry.key_id)
        if key is None:
            wrong.append(f"unknown key {entry.key_id}")
        elif not _is_good(key, message, entry, check):
            wrong.append(f"wrong signature of {key.name} ({key.id})")
        elif entry.key_id in good:
            wrong.append(f"{key.name} ({key.id}) signed twice, which counts once")
        elif entry.key_id in counts:
            good[key.id] = f"{key.name} ({key.id})"
    return _Verdict(tuple(good.values()), tuple(wrong))


def _is_good(key: TrustKey, message: bytes, entry: Signature, check: SignatureCheck) -> bool:
    try:
        return check(_decoded(key.public), message, _decoded(entry.signature))
    except ValueError:
        return False


def _decoded(text: str) -> bytes:
    """Decode base64 of the one form that has no spare bits."""
    raw = b64decode(text, validate=True)
    if b64encode(raw).decode() != text:
        raise ValueError("base64 with spare bits")
    return raw


def _require_next(before: SignedRoot, after: SignedRoot, check: SignatureCheck) -> None:
    if after.root.version != before.root.version + 1:
        raise Refused(
            f"trust root {before.root.version + 1} is missing between {before.root.version} and {after.root.version}",
            remedy="put every root of the chain into the bundle: redoubt bundle sign BUNDLE --root FILE",
            code="root_gap",
        )
    _require_root_signatures(after, before.root, after.root.keys, check)
    _require_root_signatures(after, after.root, before.root.keys, check)


def _require_root_signatures(signed: SignedRoot, by: Root, others: Sequence[TrustKey], check: SignatureCheck) -> None:
    # A later root alone shows its own threshold; signatures of its predecessor's keys cannot be judged without that.
    mine = {key.id for key in by.keys}
    alone = not others and signed.root.version > 1
    signatures = [entry for entry in signed.signatures if not alone or entry.key_id in mine]
    verdict = _judge(root_message(signed.root), signatures, by.keys, tuple(others), check)
    if verdict.wrong or len(verdict.good) < by.threshold:
        raise Refused(
            f"trust root {signed.root.version} has {len(verdict.good)} of the {by.threshold} signatures "
            f"that root {by.version} asks for ({verdict.words})",
            remedy="have its signers add theirs: redoubt bundle trust add-signature ROOT.json --key FILE",
            code="root_not_signed",
            reasons=verdict.wrong,
        )


def _root_json(root: Root) -> dict[str, Any]:
    return {
        "format": ROOT_FORMAT,
        "version": root.version,
        "expires_at": timestamp(root.expires_at),
        "threshold": root.threshold,
        "keys": [vars(key) for key in root.keys],
        "apt_keys": list(root.apt_keys),
    }


def _root(value: dict[str, Any]) -> Root:
    if set(value) != ROOT_FIELDS or value["format"] != ROOT_FORMAT:
        raise ValueError(f"its format is not {ROOT_FORMAT}")
    keys = tuple(TrustKey(**entry) for entry in value["keys"])
    root = Root(
        version=_counted(value["version"], "version"),
        expires_at=datetime.fromisoformat(value["expires_at"]),
        threshold=_counted(value["threshold"], "threshold"),
        keys=keys,
        apt_keys=tuple(value["apt_keys"]),
    )
    for fault in root_faults(root):
        raise ValueError(fault)
    return root


def root_faults(root: Root) -> Iterator[str]:
    """Yield what is wrong with a root before anybody signs it."""
    ids = [key.id for key in root.keys]
    if len(set(ids)) != len(ids):
        yield "a key is listed twice"
    if not 1 <= root.threshold <= len(ids):
        yield f"the threshold is {root.threshold} and there are {len(ids)} keys"
    for key in root.keys:
        if not re.fullmatch(r"[\w .@+-]{1,64}", key.name):
            yield f"the name of key {key.id} is not plain text"
        if key.id != key_id(_decoded(key.public)):
            yield f"the id of {key.name}'s key is not that of the key"
    if not all(isinstance(block, str) for block in root.apt_keys):
        yield "a repository key is no text"


def _counted(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"its {name} is no number from 1")
    return value


def _altered(name: str, error: Exception) -> Refused:
    return Refused(
        f"{name} is altered or not whole: {error}",
        remedy="carry it in again",
        code="trust_altered",
    )
