"""A key pair that is replaced while processes run: laid down in one step, taken up without closing a connection.

On disk a pair is a folder: `current` is a link to the newest generation, which holds `leaf.crt` and `leaf.key`.
"""

import fcntl
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

import httpx
import structlog

from controlplane.kit.durable_files import sync_folder
from controlplane.kit.errors import BadInput
from controlplane.kit.tls import CertificateFiles, load_pair

log = structlog.get_logger()

CURRENT, CERTIFICATE, KEY = "current", "leaf.crt", "leaf.key"


def pair_files(folder: Path, ca: Path) -> CertificateFiles:
    """Return where the newest generation of a pair is read."""
    return CertificateFiles(folder / CURRENT / CERTIFICATE, folder / CURRENT / KEY, ca)


def lay_pair(folder: Path, generation: str, key_pem: str, certificate_pem: str) -> None:
    """Make this the pair of the folder; a reader sees the old pair or the new one, after a crash too."""
    place = folder / generation
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    _write(place / KEY, key_pem, 0o400)
    _write(place / CERTIFICATE, certificate_pem, 0o644)
    place.chmod(0o755)
    before = str((folder / CURRENT).readlink()) if (folder / CURRENT).is_symlink() else ""
    fresh = folder / f"{CURRENT}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(generation)
    sync_folder(place)
    fresh.replace(folder / CURRENT)
    sync_folder(folder)
    for old in folder.iterdir():  # the generation before stays for whoever is reading it now
        if old.is_dir() and not old.is_symlink() and old.name not in (generation, before):
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Say whether this process alone works on a pair; other workers of a gateway look in vain."""
    descriptor = os.open(folder / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


class Leaf:
    """One pair on disk and every context of this process that shows it."""

    def __init__(self, files: CertificateFiles) -> None:
        self.files = files
        self.generation = 0
        self._shown_in: WeakSet[ssl.SSLContext] = WeakSet()
        self._stamp = self._look()

    def follow(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """Have a context show every successor too. New handshakes see it, open connections stay as they are."""
        self._shown_in.add(context)
        return context

    async def take_up(self) -> None:
        """Show a pair that was replaced since the last look. Raises BadInput for half a pair: the old one stays."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        pem = self.files.key.read_bytes() + self.files.certificate.read_bytes()
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pem)
        except ssl.SSLError as error:
            raise BadInput(
                f"{self.files.certificate} and its key are no pair: {error.reason}", remedy="it is read again soon"
            ) from None
        for context in self._shown_in:
            load_pair(context, pem)
        self._stamp = stamp
        self.generation += 1
        log.info("certificate.taken_up", certificate=str(self.files.certificate), contexts=len(self._shown_in))

    def _look(self) -> tuple[tuple[int, int], ...]:
        found = (self.files.certificate.stat(), self.files.key.stat())
        return tuple((one.st_ino, one.st_mtime_ns) for one in found)


class LeafTransport(httpx.AsyncBaseTransport):
    """httpx over a leaf: after a renewal requests go over new connections, and what runs ends on its old one."""

    def __init__(self, leaf: Leaf, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._leaf = leaf
        self._make = make
        self._generation = leaf.generation
        self._before: httpx.AsyncBaseTransport | None = None
        self._now = make()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._generation != self._leaf.generation:
            self._generation = self._leaf.generation
            retired, self._before, self._now = self._before, self._now, self._make()
            if retired is not None:
                await retired.aclose()
        return await self._now.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._before, self._now):
            if transport is not None:
                await transport.aclose()


def _write(path: Path, content: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
