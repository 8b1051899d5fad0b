"""Files that this node alone can read: frames of AES-GCM, each bound to its file and its place in it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controlplane.kit.crypto import seal, unseal
from controlplane.kit.durable_files import replace_file

FRAME_BYTES = 256 * 1024
_LEAST_SEALED = 12 + 16  # a nonce and a tag; zeros that a power cut left are no frame
_MOST_SEALED = 64 * 1024 * 1024  # beyond, a length is no length
_LENGTH = 4


class Damaged(OSError):
    """A sealed file that is cut off, was changed, or belongs to another key."""


class Sealing:
    """`node_key` is 256 bits; each file has a key of its own by its name (HKDF, RFC 5869)."""

    def __init__(self, node_key: bytes) -> None:
        self._node_key = node_key

    def key_of(self, name: str) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt=None, info=name.encode()).derive(self._node_key)

    def save(self, path: Path, name: str, record: msgspec.Struct) -> None:
        """Replace a small file as a whole. Raises OSError."""
        replace_file(path, seal(self.key_of(name), msgspec.json.encode(record), name.encode()))

    def load(self, path: Path, name: str) -> bytes | None:
        """Return the JSON of a small file, None when there is none. Raises Damaged."""
        try:
            return unseal(self.key_of(name), path.read_bytes(), name.encode())
        except FileNotFoundError:
            return None
        except (InvalidTag, ValueError):
            raise Damaged(f"{path} cannot be opened with this gateway's key") from None


class SealedWriter:
    """Writes one file from its beginning to its end; until `finish` it counts for nothing."""

    def __init__(self, path: Path, key: bytes, name: str) -> None:
        self.path = path
        self.size = 0
        self._key = key
        self._name = name
        self._part = bytearray()
        self._frames = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # a file that nobody holds is an orphan

    def write(self, data: bytes) -> None:
        """Take more of the content. Raises OSError."""
        self.size += len(data)
        self._part += data
        while len(self._part) > FRAME_BYTES:
            self._add(bytes(self._part[:FRAME_BYTES]), last=False)
            del self._part[:FRAME_BYTES]

    def finish(self) -> None:
        """Make the content durable; its name is the caller's. Raises OSError."""
        self._add(bytes(self._part), last=True)
        os.fsync(self._descriptor)
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def _add(self, data: bytes, *, last: bool) -> None:
        write_frame(self._descriptor, seal(self._key, data, _place(self._name, self._frames, last=last)))
        self._frames += 1


def read_sealed(path: Path, key: bytes, name: str) -> Iterator[bytes]:
    """Yield the content of a finished file, a frame at a time. Raises Damaged, also when its end is missing."""
    with path.open("rb") as file:
        following = next_frame(file.read(_LENGTH), file.read)
        number = 0
        while following is not None:
            frame, following = following, next_frame(file.read(_LENGTH), file.read)
            try:
                yield unseal(key, frame, _place(name, number, last=following is None))
            except (InvalidTag, ValueError):
                raise Damaged(f"{path} is damaged at part {number}") from None
            number += 1
    if not number:
        raise Damaged(f"{path} is empty")


def write_frame(descriptor: int, sealed: bytes) -> int:
    """Append one frame; return its size on the disk. Raises OSError."""
    view = memoryview(len(sealed).to_bytes(_LENGTH, "big") + sealed)
    size = len(view)
    while view:
        view = view[os.write(descriptor, view) :]
    return size


def next_frame(length: bytes, read: Callable[[int], bytes]) -> bytes | None:
    """Return a whole frame, None at the end or where the file was cut off."""
    size = int.from_bytes(length, "big")
    if len(length) < _LENGTH or not _LEAST_SEALED <= size <= _MOST_SEALED:
        return None
    frame = read(size)
    return frame if len(frame) == size else None


def _place(name: str, number: int, *, last: bool) -> bytes:
    return f"{name} {number} {'last' if last else 'more'}".encode()
