"""Split a tar to the size of the media it travels on, and join it again; whatever is wrong is said by part."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from controlplane.bundle.check import digest_range, slices
from controlplane.bundle.contents import read_contents
from controlplane.bundle.reader import Reader, opened
from controlplane.bundle.sheet import SHEET, Part, Sheet, read_sheet, write_sheets
from controlplane.bundle.source import opened_source
from controlplane.kit.errors import BadInput, Refused

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
MOST_PARTS = 999
Say = Callable[[str], None]


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


def split_tar(tar: Path, size_bytes: int, out: Path, say: Say) -> Split:
    """Write parts and their sheet below `out`; a part that is there already and right is not written again."""
    with opened_source(tar) as source:
        if source.tar is None:
            raise BadInput(f"{tar} is a folder", remedy="name the .tar beside it")
        contents = read_contents(source.head.manifest)
        ranges = list(_ranges(source.tar.size_bytes, size_bytes))
        out.mkdir(parents=True, exist_ok=True)
        parts, written = [], 0
        for number, (at, size) in enumerate(ranges, start=1):
            part, fresh = _part(source.tar, out / f"{tar.stem}.{number:03d}.part", number, at, size)
            parts.append(part)
            written += fresh
            say(f"part {number} of {len(ranges)}: {size / 1e6:.0f} MB{'' if fresh else ', was there'}")
    sheet = Sheet(contents.digest, contents.serial, tar.name, sum(size for _, size in ranges), tuple(parts))
    write_sheets(out, sheet)
    return Split(sheet, out, written)


def join_parts(folders: Sequence[Path], out: Path) -> Sheet:
    """Write the tar that the parts below these folders make; raises Refused that names each bad part."""
    sheet = sheet_of(folders)
    paths = _present(sheet, folders)
    fresh = out.with_name(f".{out.name}.part")
    try:
        with fresh.open("wb") as target:
            found = [_copied(path, target) for path in paths]
        _require_right(sheet, found)
        fresh.rename(out)
    finally:
        fresh.unlink(missing_ok=True)
    return sheet


def require_parts(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths of the parts in their order when each is right; raises Refused that names each bad part."""
    sheet = sheet_of(folders)
    paths = _present(sheet, folders)
    _require_right(sheet, [_digest(path) for path in paths])
    return paths


def sheet_of(folders: Sequence[Path]) -> Sheet:
    """Return the sheet that lies in one of these folders."""
    for folder in folders:
        if (folder / SHEET).is_file():
            return read_sheet((folder / SHEET).read_bytes(), str(folder / SHEET))
    raise BadInput(f"{folders[0]} has no {SHEET}", remedy="name the folder that holds the parts and their sheet")


def _ranges(total: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    if -(-total // size_bytes) > MOST_PARTS:
        raise BadInput(f"that makes more than {MOST_PARTS} parts", remedy="choose larger media: --size")
    for at in range(0, total, size_bytes):
        yield at, min(size_bytes, total - at)


def _part(tar: Reader, path: Path, number: int, at: int, size: int) -> tuple[Part, bool]:
    """Write one part unless it stands; tell whether it was written."""
    if path.is_file() and path.stat().st_size == size:
        digest = digest_range(tar, at, size)
        if _digest(path) == digest:
            return Part(number, path.name, size, digest), False
    return Part(number, path.name, size, _written(tar, path, at, size)), True


def _written(tar: Reader, path: Path, at: int, size: int) -> str:
    digest, fresh = hashlib.sha256(), path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as out:
            for piece in slices(tar, at, size):
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(path)
    finally:
        fresh.unlink(missing_ok=True)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with opened([path]) as reader:
        return digest_range(reader, 0, reader.size_bytes)


def _copied(path: Path, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    with opened([path]) as reader:
        for piece in slices(reader, 0, reader.size_bytes):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


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
