"""Read a Debian package: its control stanza and its licences, without unpacking it anywhere."""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from controlplane.kit.errors import Refused

AR_MAGIC = b"!<arch>\n"
HEADER_BYTES = 60
SEE_COPYRIGHT = "Debian: see copyright"
LICENCE_LINE = re.compile(r"^License:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
MACHINE_READABLE = re.compile(
    r"^Format(?:-Specification)?:\s*\S*(?:copyright-format|/DEP5|dep5)", re.MULTILINE | re.IGNORECASE
)
MOST_NAMED = 8


def control_stanza(path: Path) -> str:
    """Return the control stanza of a package; raises Refused when the file is none."""
    with _member(path, "control.tar") as tar:
        for entry in tar:
            if entry.name.removeprefix("./") == "control" and entry.isreg():
                return _text(tar, entry).strip("\n") + "\n"
    raise _broken(path, "it has no control file")


def licence_of(path: Path, package: str) -> str:
    """Return the licences that a package's copyright file names by DEP-5, or that a person must read it."""
    wanted = f"usr/share/doc/{package}/copyright"
    with _member(path, "data.tar") as tar:
        for entry in tar:
            if entry.name.removeprefix("./") == wanted and entry.isreg():
                return named_licences(_text(tar, entry))
    return SEE_COPYRIGHT


def named_licences(text: str) -> str:
    """Return the short names of a machine-readable copyright file, joined by AND."""
    if not MACHINE_READABLE.search(text):
        return SEE_COPYRIGHT
    names = sorted(set(LICENCE_LINE.findall(text)), key=str.lower)
    if not names or len(names) > MOST_NAMED:
        return SEE_COPYRIGHT
    return " AND ".join(f"({name})" if re.search(r"\b(?:or|and)\b|,", name) else name for name in names)


@contextmanager
def _member(path: Path, stem: str) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as stream:
        if stream.read(len(AR_MAGIC)) != AR_MAGIC:
            raise _broken(path, "it does not start like one")
        while len(header := stream.read(HEADER_BYTES)) == HEADER_BYTES:
            name, size_bytes = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if name.startswith(stem):
                with _opened(path, name, _Window(stream, size_bytes)) as tar:
                    yield tar
                return
            stream.seek(size_bytes + size_bytes % 2, io.SEEK_CUR)
    raise _broken(path, f"it has no {stem}")


def _opened(path: Path, name: str, stream: "_Window") -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r|*")  # type: ignore[call-overload,no-any-return]  # a stream is read
    except tarfile.TarError as error:
        raise _broken(path, f"{name} cannot be read: {error}") from None


class _Window:
    """The bytes of one member, and not one more."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream, self._left = stream, size_bytes

    def read(self, size: int) -> bytes:
        block = self._stream.read(min(size, self._left))
        self._left -= len(block)
        return block


def _text(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    stream = tar.extractfile(entry)
    return stream.read().decode(errors="replace") if stream else ""


def _broken(path: Path, reason: str) -> Refused:
    return Refused(
        f"{path.name} is no Debian package: {reason}", remedy="fetch it again: redoubt bundle fetch", code="deb_broken"
    )
