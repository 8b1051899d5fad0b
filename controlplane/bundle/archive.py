"""The tar that carries a bundle. Its bytes follow from what it holds, so that nothing in it is left unchecked.

Order: manifest, trust/ with room for more signatures, InRelease, then the files of the manifest.
Standard library and kit alone: the depot's node runs it too.
"""

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from controlplane.bundle.contents import IN_RELEASE, MANIFEST, PART, SHEET, SIGNATURES, TRUST, Carried, is_beside
from controlplane.bundle.reader import Advance, Reader, read, unseen
from controlplane.kit.errors import BadInput, Refused

BLOCK = tarfile.BLOCKSIZE
RECORD = tarfile.RECORDSIZE
ROOM = "trust/room"
Buffer = bytes | memoryview
TRUST_STEP = 65536  # the trust part of a tar is a multiple of this, so that a signature fits in without moving the rest
LARGEST_HEAD_FILE = 256 << 20
DELTA = "delta.json"
BUILT = "name the folder or the .tar that was built: redoubt bundle build --out FOLDER"


@dataclass(frozen=True)
class Head:
    """What is read before anything is trusted. `trust` is content by path; `delta` is there in a delta alone."""

    manifest: bytes
    trust: Mapping[str, bytes]
    in_release: bytes | None = None
    delta: bytes | None = None
    body_at: int = field(default=0, compare=False)


class Placed(NamedTuple):
    """A file of a tar: its framing begins at `frame_at`, its content at `data_at`."""

    file: Carried
    frame_at: int
    data_at: int

    @property
    def end(self) -> int:
        return self.data_at + padded(self.file.size_bytes)


def frame(path: str, size_bytes: int) -> bytes:
    """Return the one header that this file may have in a tar: a plain file, nobody's, without a time."""
    member = tarfile.TarInfo(path)
    member.size, member.mode = size_bytes, 0o644
    return member.tobuf(tarfile.PAX_FORMAT)


def padded(size_bytes: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size_bytes // BLOCK) * BLOCK


def place(files: Iterable[Carried], at: int) -> list[Placed]:
    """Return where the files of a bundle lie in a tar whose body begins at `at`."""
    placed = []
    for file in files:
        data_at = at + len(frame(file.path, file.size_bytes))
        placed.append(Placed(file, at, data_at))
        at = placed[-1].end
    return placed


def end_of(body: list[Placed], head: Head) -> int:
    """Return the size of the whole tar."""
    end = body[-1].end if body else head.body_at
    return -(-(end + 2 * BLOCK) // RECORD) * RECORD


def head_bytes(head: Head) -> bytes:
    """Return the bytes of a tar up to its first file."""
    first = _whole(DELTA, head.delta) if head.delta is not None else b""
    last = _whole(IN_RELEASE, head.in_release) if head.in_release is not None else b""
    return first + _whole(MANIFEST, head.manifest) + trust_part(head.trust) + last


def trust_part(trust: Mapping[str, bytes]) -> bytes:
    """Return the part of a tar that signers may rewrite."""
    files = b"".join(_whole(path, trust[path]) for path in sorted(trust))
    room = -(len(files) + BLOCK) % TRUST_STEP
    return files + _whole(ROOM, bytes(room))


def pack_bundle(folder: Path, archive: Path, advance: Advance = unseen) -> Path:
    """Write the one tar of a bundle, the same bytes for the same folder."""
    head = folder_head(folder)
    paths = [path for path in files_below(folder) if not is_beside(path.relative_to(folder).as_posix())]
    files = sorted(Carried(path.relative_to(folder).as_posix(), "", path.stat().st_size) for path in paths)
    write_tar(archive, head, files, lambda file: _content(folder / file.path), advance)
    return archive


def write_tar(
    archive: Path,
    head: Head,
    files: Iterable[Carried],
    content: Callable[[Carried], Iterable[Buffer]],
    advance: Advance = unseen,
) -> None:
    """Write a tar of a head and files; constant memory."""
    with archive.open("wb") as out:
        out.write(head_bytes(head))
        for file in files:
            out.write(frame(file.path, file.size_bytes))
            for piece in content(file):
                out.write(piece)
                advance(len(piece))
            out.write(bytes(-file.size_bytes % BLOCK))
        out.write(bytes(2 * BLOCK))
        out.write(bytes(-out.tell() % RECORD))


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(1 << 18):
            yield piece


def folder_head(folder: Path) -> Head:
    """Read the head of a bundle that lies as a folder."""
    require_no_parts(folder)
    try:
        manifest = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder} has no {MANIFEST}", remedy=BUILT) from None
    trust = {f"{TRUST}{path.name}": path.read_bytes() for path in sorted(folder.glob(f"{TRUST}*")) if path.is_file()}
    in_release = folder / IN_RELEASE
    return Head(manifest, trust, in_release.read_bytes() if in_release.is_file() else None)


def require_no_parts(path: Path) -> None:
    """Raises BadInput that says how to join, for a folder of parts and for a part of it."""
    folder = path.parent if path.suffix == PART else path
    if (folder / SHEET).is_file():
        raise BadInput(
            f"{path} is {'one part' if folder != path else 'the parts'} of a tar",
            remedy=f"put the parts together first: redoubt bundle join {folder} --out FILE.tar",
            code="in_parts",
        )


def tar_head(tar: Reader, name: str) -> Head:
    """Read the head of a tar; raises Refused or BadInput."""
    found: dict[str, bytes] = {}
    at = 0
    for path, content, end in _members(tar, name):
        if path == ROOM or path.startswith(TRUST) or path in (MANIFEST, DELTA, IN_RELEASE):
            found[path] = content
            at = end
        else:
            break
        if path == IN_RELEASE:
            break
    if MANIFEST not in found or SIGNATURES not in found:
        raise BadInput(f"{name} does not start with {MANIFEST} and {TRUST}", remedy=BUILT)
    trust = {path: content for path, content in found.items() if path.startswith(TRUST) and path != ROOM}
    head = Head(found[MANIFEST], trust, found.get(IN_RELEASE), found.get(DELTA), at)
    if read(tar, at, 0) != head_bytes(head):
        raise Refused(f"the head of {name} is altered", remedy="carry the bundle in again", code="bundle_altered")
    return head


def _members(tar: Reader, name: str) -> Iterator[tuple[str, bytes, int]]:
    at = 0
    while True:
        try:
            member = tarfile.TarInfo.frombuf(read(tar, BLOCK, at), "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            if at == 0:
                raise BadInput(f"{name} is no tar: {error}", remedy=BUILT) from None
            return
        if not 0 <= member.size <= LARGEST_HEAD_FILE or not member.isreg():
            return
        yield member.name, read(tar, member.size, at + BLOCK), at + BLOCK + padded(member.size)
        at += BLOCK + padded(member.size)


def _whole(path: str, content: bytes) -> bytes:
    return frame(path, len(content)) + content + bytes(-len(content) % BLOCK)


def files_below(folder: Path) -> list[Path]:
    """Return every file of a folder, sorted."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
