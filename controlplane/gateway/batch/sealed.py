"""Files that this node alone can read: each has a random key of its own, kept in its first bytes under the node's.

Whoever lets go of the last name of a file overwrites these bytes: what the key sealed is gone then, however long its
blocks stay on the disk. Behind them come frames of AES-GCM, each bound to its file and its place in it.
"""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controlplane.kit.crypto import seal, unseal
from controlplane.kit.durable_files import replace_file

FRAME_BYTES = 256 * 1024
HEADER_BYTES = 12 + 32 + 16  # a nonce, a key, a tag; zeros where there is no key yet, or no more
_HEADER = b"key of "
_LEAST_SEALED = 12 + 16  # a nonce and a tag; zeros that a power cut left are no frame
_MOST_SEALED = 64 * 1024 * 1024  # beyond, a length is no length
_LENGTH = 4


class Damaged(OSError):
    """A sealed file that is cut off, was changed, or belongs to another key."""


class Sealing:
    """`node_key` is 256 bits; it wraps the keys of files, for each name by one of its own (HKDF, RFC 5869)."""

    def __init__(self, node_key: bytes) -> None:
        self._node_key = node_key

    def new_key(self, name: str) -> tuple[bytes, bytes]:
        """Return a random key for one file, and the header that keeps it."""
        key = secrets.token_bytes(32)
        return key, seal(self._wrapping(name), key, _HEADER + name.encode())

    def key_in(self, header: bytes, name: str) -> bytes:
        """Return the key of a file. Raises Damaged, also when it was destroyed."""
        try:
            return unseal(self._wrapping(name), header, _HEADER + name.encode())
        except (InvalidTag, ValueError):
            raise Damaged(f"the key of {name} cannot be opened with this gateway's") from None

    def save(self, path: Path, name: str, record: msgspec.Struct) -> None:
        """Replace a small file as a whole, and destroy the key of the one before. Raises OSError."""
        key, header = self.new_key(name)
        before = _open(path)
        try:
            replace_file(path, header + seal(key, msgspec.json.encode(record), name.encode()))
            _destroy_if_last(before)
        finally:
            _close(before)

    def load(self, path: Path, name: str) -> bytes | None:
        """Return the JSON of a small file, None when there is none. Raises Damaged.

        One that is replaced between its opening and its reading has lost its key: then the new one is read.
        """
        try:
            raw, before = path.read_bytes(), b""
            while raw != before:
                try:
                    return unseal(self.key_in(raw[:HEADER_BYTES], name), raw[HEADER_BYTES:], name.encode())
                except (Damaged, InvalidTag, ValueError):
                    raw, before = path.read_bytes(), raw
        except FileNotFoundError:
            return None
        raise Damaged(f"{path} cannot be opened with this gateway's key")

    def _wrapping(self, name: str) -> bytes:
        return HKDF(hashes.SHA256(), 32, salt=None, info=name.encode()).derive(self._node_key)


def replace_sealed(fresh: Path, path: Path) -> None:
    """Give a sealed file the name of another one, which is destroyed if that was its last. Raises OSError."""
    before = _open(path)
    try:
        fresh.replace(path)
        _destroy_if_last(before)
    finally:
        _close(before)


def destroy(path: Path) -> None:
    """Take a sealed file's name away, and with its last name its key. Raises OSError.

    The name goes first: of two that let go of the last two names one finds none left, and no link is made meanwhile.
    """
    descriptor = _open(path)
    try:
        path.unlink(missing_ok=True)
        _destroy_if_last(descriptor)
    finally:
        _close(descriptor)


def drop_orphan(path: Path, older_than_s: float) -> None:
    """Destroy a file whose writer is gone: it would hold the lock, and a young one may not have it yet."""
    descriptor = _open(path)
    try:
        if descriptor is not None and os.fstat(descriptor).st_mtime < older_than_s:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            destroy(path)
    except BlockingIOError:
        return
    finally:
        _close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock among the workers of a node. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class SealedWriter:
    """Writes one file from its beginning to its end; until `finish` it counts for nothing."""

    def __init__(self, path: Path, sealing: Sealing, name: str, *, reserved_bytes: int = 0) -> None:
        self.path = path
        self.size = 0
        self._key, self._header = sealing.new_key(name)
        self._name = name
        self._has_key = False  # on the disk: what breaks off leaves none
        self._part = bytearray()
        self._frames = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # a file that nobody holds is an orphan
        os.ftruncate(self._descriptor, reserved_bytes)  # a size alone: it takes no blocks yet
        os.lseek(self._descriptor, HEADER_BYTES, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Take more of the content. Raises OSError."""
        self.size += len(data)
        self._part += data
        while len(self._part) > FRAME_BYTES:
            self._add(bytes(self._part[:FRAME_BYTES]), last=False)
            del self._part[:FRAME_BYTES]

    def finish(self) -> None:
        """Make the content durable. The caller names it, then closes it: until then it is no orphan. Raises OSError."""
        self._add(bytes(self._part), last=True)
        os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        self._has_key = True
        os.pwrite(self._descriptor, self._header, 0)
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        self.close()
        if self._has_key:
            destroy(self.path)
        else:
            self.path.unlink(missing_ok=True)

    def _add(self, data: bytes, *, last: bool) -> None:
        write_frame(self._descriptor, seal(self._key, data, _place(self._name, self._frames, last=last)))
        self._frames += 1


def read_sealed(path: Path, sealing: Sealing, name: str) -> Iterator[bytes]:
    """Yield the content of a finished file, a frame at a time. Raises Damaged, also when its end is missing."""
    with path.open("rb") as file:
        key = sealing.key_in(file.read(HEADER_BYTES), name)
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


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _destroy_if_last(descriptor: int | None) -> None:
    """Overwrite the key of an open file that has no name any more."""
    if descriptor is not None and not os.fstat(descriptor).st_nlink:
        os.pwrite(descriptor, bytes(HEADER_BYTES), 0)
        os.fdatasync(descriptor)
