"""Hold every byte of a bundle, as a folder or as a tar, against its manifest. Standard library and kit alone."""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple  # buffers have no narrower type before Python 3.12

from controlplane.bundle.archive import DELTA, Head, Placed, end_of, frame, place
from controlplane.bundle.armour import require_same_text
from controlplane.bundle.contents import IN_RELEASE, RELEASE, TRUST, Carried, Contents, is_beside, is_inside
from controlplane.bundle.reader import Advance, OneFile, Reader, read, unseen
from controlplane.kit.errors import Refused

SLICE = 1 << 18  # stays in a core's cache between read and digest
Fault = str
_KINDS = {
    stat.S_IFREG: "",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
}


class _Seen(NamedTuple):
    kind: str
    size_bytes: int


def slices(source: Reader, at: int, size_bytes: int) -> Iterator[memoryview]:
    """Yield a range in slices of one buffer; ends early where the source does."""
    buffer = memoryview(bytearray(min(SLICE, size_bytes)))
    while size_bytes > 0:
        count = source.read_into(buffer[: min(SLICE, size_bytes)], at)
        if count == 0:
            return
        yield buffer[:count]
        at, size_bytes = at + count, size_bytes - count


def digest_range(source: Reader, at: int, size_bytes: int, advance: Advance = unseen) -> str:
    """Return the SHA-256 of a range; what is shorter than asked has another digest."""
    digest = hashlib.sha256()
    for piece in slices(source, at, size_bytes):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


def digest_file(path: Path, size_bytes: int, advance: Advance = unseen) -> str:
    """Return the SHA-256 of a file that is expected to have this size; never follows a link."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return digest_range(OneFile(source), 0, size_bytes, advance)
    finally:
        os.close(source)


def require_whole(faults: Iterable[Fault], name: str, again: str) -> None:
    """Raises Refused that names every fault, if there is one."""
    found = tuple(faults)
    if found:
        raise Refused(
            f"{name}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""),
            remedy=f"carry the bundle in again, or build it anew; then repeat: {again}",
            code="bundle_altered",
            reasons=found,
        )


def folder_faults(root: Path, contents: Contents, head: Head, advance: Advance = unseen) -> list[Fault]:
    """Return what differs between a folder and its manifest."""
    faults, present = folder_layout(root, contents)
    faults += _digest_faults(present, lambda file: digest_file(root / file.path, file.size_bytes, advance))
    return faults or release_faults(contents, head, lambda file: (root / file.path).read_bytes())


def folder_layout(root: Path, contents: Contents) -> tuple[list[Fault], list[Carried]]:
    """Return what is there and should not be, or the other way round, and the files that have their size."""
    seen = {path: found for path, found in _walk(root, "") if found.kind or not is_beside(path)}
    faults = []
    present = []
    for file in contents.files:
        found = seen.pop(file.path, None)
        if found is None:
            faults.append(f"{file.path} is missing")
        elif found.kind:
            faults.append(f"{file.path} is {found.kind} and no file")
        elif found.size_bytes != file.size_bytes:
            faults.append(f"{file.path} has {found.size_bytes} bytes instead of {file.size_bytes}")
        else:
            present.append(file)
    return faults + [f"{path} is in the bundle and not in its manifest" for path in sorted(seen)], present


def tar_faults(tar: Reader, contents: Contents, head: Head, advance: Advance = unseen) -> list[Fault]:
    """Return what differs between a whole tar and its manifest, byte for byte."""
    body = place(contents.files, head.body_at)
    if framing := framing_faults(tar, body, head):
        return framing
    at = {placed.file.path: placed.data_at for placed in body}
    carried = [placed.file for placed in body]
    faults = _digest_faults(carried, lambda file: digest_range(tar, at[file.path], file.size_bytes, advance))
    if RELEASE not in at:
        return faults
    return faults or release_faults(contents, head, lambda file: read(tar, file.size_bytes, at[file.path]))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, _Seen]]:
    for entry in os.scandir(folder):
        path = f"{prefix}{entry.name}"
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            yield from _walk(folder / entry.name, f"{path}/")
        else:
            yield path, _Seen(_KINDS.get(stat.S_IFMT(info.st_mode), "of an unknown kind"), info.st_size)


def _digest_faults(files: list[Carried], digest: Callable[[Carried], str]) -> list[Fault]:
    # The largest first, so that no core is left alone with one at the end.
    ordered = sorted(files, key=lambda file: -file.size_bytes)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip((file.path for file in ordered), pool.map(digest, ordered), strict=True))
    return [altered(file, found[file.path]) for file in files if found[file.path] != file.sha256]


def altered(file: Carried, found: str) -> Fault:
    """Say that a file is not the one that was signed."""
    return f"{file.path} is altered: its SHA-256 is {found[:16]}…, signed was {file.sha256[:16]}…"


def release_faults(contents: Contents, head: Head, content: Callable[[Carried], bytes]) -> list[Fault]:
    """Return whether the signed form of the repository's description says what the manifest's one says."""
    release = [file for file in contents.files if file.path == RELEASE]
    if not release:
        return [f"{IN_RELEASE} is in the bundle and not in its manifest"] if head.in_release is not None else []
    if head.in_release is None:
        return [f"{IN_RELEASE} is missing"]
    try:
        require_same_text(content(release[0]), head.in_release, IN_RELEASE)
    except Refused as refusal:
        return [refusal.detail]
    return []


def framing_faults(tar: Reader, body: list[Placed], head: Head) -> list[Fault]:
    """Return what is wrong between the files of a tar, in words where there are some."""
    found = list(_framing_faults(tar, body, head))
    return found and (_diagnosed(tar, body) or found)


def _framing_faults(tar: Reader, body: list[Placed], head: Head) -> Iterator[Fault]:
    for placed in body:
        header = frame(placed.file.path, placed.file.size_bytes)
        if read(tar, len(header), placed.frame_at) != header:
            yield f"the header of {placed.file.path} is altered"
        spare = placed.end - placed.data_at - placed.file.size_bytes
        if read(tar, spare, placed.end - spare) != bytes(spare):
            yield f"what stands behind {placed.file.path} is altered"
    end = end_of(body, head)
    last = body[-1].end if body else head.body_at
    if read(tar, end - last, last) != bytes(end - last):
        yield "the end of the tar is altered or missing"
    if tar.size_bytes > end:
        yield f"{tar.size_bytes - end} bytes stand behind the end of the tar"


def _diagnosed(tar: Reader, body: list[Placed]) -> list[Fault]:
    """Say in words why a tar is not laid out as its manifest asks."""
    expected = {placed.file.path: placed.file for placed in body}
    faults: list[Fault] = []
    try:
        for member in _body_members(tar):
            file = expected.pop(member.name, None)
            if not is_inside(member.name):
                faults.append(f"{member.name!r} is a path outside the bundle")
            elif not member.isreg():
                faults.append(f"{member.name} is {_kind(member)} and no file")
            elif file is None:
                faults.append(f"{member.name} is in the bundle and not in its manifest, or twice")
            elif member.size != file.size_bytes:
                faults.append(f"{member.name} has {member.size} bytes instead of {file.size_bytes}")
    except (tarfile.TarError, OSError, ValueError) as error:
        faults.append(f"the tar is not whole: {error}")
    return faults + [f"{path} is missing" for path in expected]


def _body_members(tar: Reader) -> Iterator[tarfile.TarInfo]:
    with io.BufferedReader(_Stream(tar)) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            if not member.name.startswith(TRUST) and not is_beside(member.name) and member.name != DELTA:
                yield member


class _Stream(io.RawIOBase):
    """A reader as the stream that `tarfile` wants."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._at = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._reader.size_bytes}
        self._at = base[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = self._reader.read_into(memoryview(buffer), self._at)
        self._at += count
        return count


def _kind(member: tarfile.TarInfo) -> str:
    names = {
        tarfile.SYMTYPE: f"a symbolic link to {member.linkname}",
        tarfile.LNKTYPE: f"a hard link to {member.linkname}",
        tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a device",
        tarfile.FIFOTYPE: "a pipe",
        tarfile.DIRTYPE: "a folder",
    }
    return names.get(member.type, "of an unknown kind")
