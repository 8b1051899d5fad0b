"""Split a tar to the size of the media it travels on, and join it again; whatever is wrong is said by part."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from controlplane.bundle.archive import tar_head
from controlplane.bundle.check import digest_range, slices
from controlplane.bundle.contents import SHEET, Contents, read_contents
from controlplane.bundle.progress import UNSEEN, Progress, watched
from controlplane.bundle.reader import Advance, Reader, opened
from controlplane.bundle.sheet import Part, Sheet, part_name, read_sheet, write_sheets
from controlplane.bundle.source import opened_source
from controlplane.kit.errors import BadInput, Refused

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MOST_PARTS = 999


@dataclass(frozen=True)
class Split:
    sheet: Sheet
    folder: Path
    written: int


def bytes_of(text: str) -> int:
    """Return a size such as 4.7GB, 25GB or 700000 in bytes, as media are sold; raises BadInput."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b)?\s*", text.lower())
    size = int(float(found[1]) * UNITS[found[2] or ""]) if found and (found[2] or "") in UNITS else 0
    if size < 1:
        raise BadInput(f"{text} is no size", remedy="give --size as 4.7GB, 25GB or a number of bytes")
    return size


def split_tar(tar: Path, size_bytes: int, out: Path, progress: Progress = UNSEEN) -> Split:
    """Write parts and their sheet below `out`; a part that is there already and right is not written again."""
    with opened_source(tar) as source:
        if source.tar is None:
            raise BadInput(f"{tar} is a folder", remedy=f"name its tar: redoubt bundle split {tar}.tar")
        contents = read_contents(source.head.manifest)
        total = source.tar.size_bytes
        ranges = list(_ranges(total, size_bytes))
        out.mkdir(parents=True, exist_ok=True)
        with watched(progress, f"split {tar.name}", total) as advance:
            cut = _Cut(source.tar, out, tar.name, advance)
            parts = tuple(cut.part(number, at, size) for number, (at, size) in enumerate(ranges, start=1))
    sheet = Sheet(contents.digest, contents.serial, tar.name, total, cut.whole.hexdigest(), parts)
    write_sheets(out, sheet)
    return Split(sheet, out, cut.written)


def join_parts(folders: Sequence[Path], out: Path, progress: Progress = UNSEEN) -> Sheet:
    """Write the tar that the parts below these folders make; raises Refused that names each bad part."""
    sheet = sheet_of(folders)
    paths = _present(sheet, folders)
    fresh = out.with_name(f".{out.name}.part")
    try:
        with fresh.open("wb") as target, watched(progress, f"join {out.name}", sheet.size_bytes) as advance:
            _require_told(sheet, paths, advance, target)
        fresh.rename(out)
    finally:
        fresh.unlink(missing_ok=True)
    return sheet


def require_parts(folders: Sequence[Path], progress: Progress = UNSEEN) -> tuple[Path, ...]:
    """Return the paths of the parts in their order when each is right; raises Refused that names each bad part."""
    sheet = sheet_of(folders)
    paths = _present(sheet, folders)
    with watched(progress, f"check {len(paths)} parts", sheet.size_bytes) as advance:
        _require_told(sheet, paths, advance)
    return paths


def sheet_of(folders: Sequence[Path]) -> Sheet:
    """Return the sheet that lies in one of these folders."""
    for folder in folders:
        if (folder / SHEET).is_file():
            return read_sheet((folder / SHEET).read_bytes(), str(folder / SHEET))
    raise BadInput(
        f"{folders[0]} has no {SHEET}",
        remedy=(
            "name the folder that holds the parts and their sheet: redoubt bundle join FOLDER --out FILE.tar; "
            "for a delta its base too: --base BUNDLE"
        ),
    )


def _ranges(total: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    if -(-total // size_bytes) > MOST_PARTS:
        raise BadInput(f"that makes more than {MOST_PARTS} parts", remedy="choose larger media: --size")
    for at in range(0, total, size_bytes):
        yield at, min(size_bytes, total - at)


class _Cut:
    """Parts under way: `whole` is the digest of all that was cut so far, `written` the number of fresh parts."""

    def __init__(self, tar: Reader, out: Path, name: str, advance: Advance) -> None:
        self._tar, self._out, self._name, self._advance = tar, out, name, advance
        self.whole, self.written = hashlib.sha256(), 0

    def part(self, number: int, at: int, size: int) -> Part:
        """Write one part unless it stands."""
        path = self._out / part_name(self._name, number)
        before = _digest(path) if path.is_file() and path.stat().st_size == size else ""
        # What stands there is compared first: media are slow, and their blocks wear.
        if before and before == digest_range(self._tar, at, size):
            digest = self._taken(at, size)
        else:
            digest = self._written(path, at, size)
            self.written += 1
        return Part(number, path.name, size, digest)

    def _taken(self, at: int, size: int, out: BinaryIO | None = None) -> str:
        digest = hashlib.sha256()
        for piece in slices(self._tar, at, size):
            digest.update(piece)
            self.whole.update(piece)
            if out:
                out.write(piece)
            self._advance(len(piece))
        return digest.hexdigest()

    def _written(self, path: Path, at: int, size: int) -> str:
        fresh = path.with_name(f".{path.name}.new")
        try:
            with fresh.open("wb") as out:
                digest = self._taken(at, size, out)
                out.flush()
                os.fsync(out.fileno())
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)
        return digest


def _digest(path: Path) -> str:
    with opened([path]) as reader:
        return digest_range(reader, 0, reader.size_bytes)


def _require_told(sheet: Sheet, paths: Sequence[Path], advance: Advance, target: BinaryIO | None = None) -> None:
    """Hold every word of the sheet against the parts, and copy them on the way where there is a target."""
    whole, found = hashlib.sha256(), []
    for path in paths:
        digest = hashlib.sha256()
        for piece in _pieces(path):
            digest.update(piece)
            whole.update(piece)
            if target:
                target.write(piece)
            advance(len(piece))
        found.append(digest.hexdigest())
    _require_right(sheet, found)
    with opened(paths) as tar:
        manifest = tar_head(tar, sheet.tar).manifest
    sizes = [path.stat().st_size for path in paths]
    faults = list(_sheet_faults(sheet, whole.hexdigest(), sizes, read_contents(manifest)))
    if faults:
        raise Refused(
            f"{SHEET} is altered: {faults[0]}",
            remedy="copy the sheet again from its medium, or make it again: redoubt bundle split",
            code="sheet_altered",
            reasons=tuple(faults),
        )


def _sheet_faults(sheet: Sheet, sha256: str, sizes: list[int], contents: Contents) -> Iterator[str]:
    """Yield what the sheet says of the whole that its parts do not bear out; all of them are right by themselves."""
    if sha256 != sheet.sha256:
        yield f"the parts make a tar with the SHA-256 {sha256[:16]}… and not {sheet.sha256[:16]}…"
    if sizes != [part.size_bytes for part in sheet.parts]:
        yield "its parts have other sizes"
    if contents.digest != sheet.bundle:
        yield f"the parts hold bundle {contents.digest[:16]}… and not {sheet.bundle[:16]}…"
    if contents.serial != sheet.serial:
        yield f"the parts hold a bundle with serial {contents.serial} and not {sheet.serial}"


def _pieces(path: Path) -> Iterator[memoryview]:
    with opened([path]) as reader:
        yield from slices(reader, 0, reader.size_bytes)


def _present(sheet: Sheet, folders: Sequence[Path]) -> tuple[Path, ...]:
    paths = [next((f / part.file for f in folders if (f / part.file).is_file()), None) for part in sheet.parts]
    missing = [part for part, path in zip(sheet.parts, paths, strict=True) if path is None]
    if missing:
        words = tuple(f"part {part.number} ({part.file}) is missing" for part in missing)
        raise _refused(words)
    return tuple(path for path in paths if path is not None)


def _require_right(sheet: Sheet, found: Sequence[str]) -> None:
    """Compare by content, so that a part under another's name is told from one that was damaged."""
    by_digest = {part.sha256: part.number for part in sheet.parts}
    words = []
    for part, digest in zip(sheet.parts, found, strict=True):
        if digest == part.sha256:
            continue
        if digest not in by_digest:
            words.append(f"part {part.number} ({part.file}) is damaged")
        elif found[by_digest[digest] - 1] == digest:
            words.append(f"part {by_digest[digest]} is there twice: part {part.number} ({part.file}) holds it too")
        else:
            words.append(f"part {part.number} ({part.file}) holds what part {by_digest[digest]} should")
    if words:
        raise _refused(tuple(words))


def _refused(words: tuple[str, ...]) -> Refused:
    return Refused(
        words[0] + (f" (and {len(words) - 1} more)" if len(words) > 1 else ""),
        remedy="copy that part again from its medium, or make it again: redoubt bundle split",
        code="part_wrong",
        reasons=words,
    )
