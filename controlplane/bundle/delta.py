"""What changed between two bundles, and the tar that carries nothing but that."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from controlplane.bundle.archive import Buffer, write_tar
from controlplane.bundle.check import altered
from controlplane.bundle.contents import LOCK, Carried, Contents, read_contents
from controlplane.bundle.delta_list import DeltaList, delta_bytes, lacking, refuse_delta
from controlplane.bundle.progress import watched
from controlplane.bundle.reader import read
from controlplane.bundle.source import Source, opened_source
from controlplane.bundle.verify import Trust, inspect_bundle, verify_bundle
from controlplane.kit.errors import BadInput, Refused

COMPARED = "it is only compared with, and nothing is taken from it"
Content = Callable[[Carried], Iterator[Buffer]]


@dataclass(frozen=True)
class Difference:
    """What came, went and changed, as artefacts where both locks name them and as files where not.

    `carried_bytes` is what a delta would carry.
    """

    old: str
    new: str
    came: tuple[str, ...]
    went: tuple[str, ...]
    changed: tuple[str, ...]
    carried_files: int
    carried_bytes: int


def diff_bundles(old: Path, new: Path, trust: Trust) -> Difference:
    """Compare two bundles, both of which must be trusted; their files are not read."""
    inspect_bundle(old, replace(trust, accept=COMPARED))
    inspect_bundle(new, trust)
    with opened_source(old) as before, opened_source(new) as after:
        return _difference(before, after)


def write_delta(old: Path, new: Path, out: Path, trust: Trust) -> Difference:
    """Write the tar that makes `new` where `old` is; every byte of `new` is verified first."""
    inspect_bundle(old, replace(trust, accept=COMPARED))
    verify_bundle(new, trust)
    with opened_source(old) as before, opened_source(new) as after:
        contents = read_contents(after.head.manifest)
        files = lacking(contents, read_contents(before.head.manifest).files)
        delta = DeltaList(_digest(before), contents.digest, tuple(file.path for file in files))
        head = replace(after.head, delta=delta_bytes(delta))
        with watched(trust.progress, f"write {out.name}", sum(file.size_bytes for file in files)) as advance:
            _write(out, lambda part: write_tar(part, head, files, _content(after, contents), advance))
        return _difference(before, after)


def join_delta(delta: Path, base: Path, out: Path, trust: Trust) -> Contents:
    """Write the whole tar of the bundle that a delta makes on its base; verified against the full manifest."""
    with opened_source(delta) as change, opened_source(base) as before:
        if change.delta is None:
            raise BadInput(f"{delta} is no delta", remedy=f"it is whole already: redoubt bundle verify {delta}")
        refuse_delta(before.head.delta, base)
        if change.delta.base != _digest(before):
            raise Refused(
                f"the delta stands on bundle {change.delta.base[:16]}…, and {base.name} is {_digest(before)[:16]}…",
                remedy="name the bundle that the delta was made against: --base BUNDLE",
                code="base_missing",
            )
        contents = read_contents(change.head.manifest)
        content = _joined(change, before, contents)
        head = replace(change.head, delta=None)
        with watched(trust.progress, f"join {out.name}", contents.size_bytes) as advance:
            _write(out, lambda part: write_tar(part, head, contents.files, content, advance))
    verify_bundle(out, trust)
    return contents


def _write(out: Path, write: Callable[[Path], None]) -> None:
    """Write beside the target and move it there when it is whole."""
    part = out.with_name(f".{out.name}.part")
    try:
        write(part)
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def _digest(source: Source) -> str:
    return read_contents(source.head.manifest).digest


def _content(source: Source, contents: Contents) -> Content:
    body = source.body(contents)
    return lambda file: source.pieces(file, body)


def _joined(change: Source, before: Source, contents: Contents) -> Content:
    fresh, kept = _content(change, contents), _content(before, read_contents(before.head.manifest))
    carried = {file.path for file in change.carried(contents)}
    known = {(file.sha256, file.size_bytes): file for file in read_contents(before.head.manifest).files}

    def pieces(file: Carried) -> Iterator[Buffer]:
        digest = hashlib.sha256()
        for piece in fresh(file) if file.path in carried else kept(known[file.sha256, file.size_bytes]):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != file.sha256:
            raise Refused(altered(file, digest.hexdigest()), remedy="carry it in again", code="bundle_altered")

    return pieces


def _difference(before: Source, after: Source) -> Difference:
    old, new = read_contents(before.head.manifest), read_contents(after.head.manifest)
    had, has = _named(before, old), _named(after, new)
    carried = lacking(new, old.files)
    return Difference(
        old=old.digest,
        new=new.digest,
        came=tuple(sorted(f"{name} {has[name]}" for name in has.keys() - had.keys())),
        went=tuple(sorted(f"{name} {had[name]}" for name in had.keys() - has.keys())),
        changed=tuple(f"{n} {had[n]} -> {has[n]}" for n in sorted(had.keys() & has.keys()) if had[n] != has[n]),
        carried_files=len(carried),
        carried_bytes=sum(file.size_bytes for file in carried),
    )


def _named(source: Source, contents: Contents) -> dict[str, str]:
    """Return what a bundle holds by name: version of artefacts, digest of other files."""
    artefacts = json.loads(_lock(source, contents)).get("artefacts", [])
    named = {f"{entry['type']} {entry['name']}": f"{entry['version']} ({entry['sha256'][:8]})" for entry in artefacts}
    if len(named) == len(artefacts) and named:
        return named
    return {file.path: file.sha256[:16] for file in contents.files}


def _lock(source: Source, contents: Contents) -> bytes:
    file = next(file for file in contents.files if file.path == LOCK)
    if source.folder is not None:
        return (source.folder / LOCK).read_bytes()
    if source.tar is None or (source.delta and LOCK not in source.delta.files):
        return b"{}"
    return read(source.tar, file.size_bytes, source.body(contents)[LOCK].data_at)
