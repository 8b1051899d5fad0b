"""What a gateway needs to keep files: the node's key, the folder, and the zone it stands in."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from cryptography import x509

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.content_key import NoContentKey, WrongContentKey, read_content_key
from controlplane.gateway.batch.leader import EVERY_S, Leader
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.hub import Hub
from controlplane.kit.errors import BadInput
from controlplane.kit.loop import run_every
from controlplane.main.gateway_leaves import Loop
from controlplane.main.settings import GatewaySettings

log = structlog.get_logger()

LOOK_S = 2.0  # at the key
_ZONE = re.compile(r"redoubt://[^/]+/zone/([^/]+)/service/[^/]+")


class KeptFiles:
    """Gives the hub its archive once the node's key is there, and says why while it is not; then does its batches."""

    def __init__(self, hub: Hub, settings: GatewaySettings, content_key: Path) -> None:
        self._hub = hub
        self._settings = settings
        self._path = content_key
        self._root = settings.state_dir / "content"
        self._key: bytes | None = None  # what the archive seals with
        self._said = ""
        self._leader: Leader | None = None

    def look(self) -> None:
        """Take the key up, or take nothing in without it: it may come late, and be lost while we serve. It blocks."""
        try:
            key = read_content_key(self._path, self._root)
            if self._key not in (None, key):
                detail = f"content_key {self._path} is not the one that this gateway began with"
                raise WrongContentKey(detail, remedy="restart the gateway: systemctl restart redoubt-gateway")
        except OSError as error:
            self._lock(NoContentKey(f"content_key cannot be checked: {error}", remedy=f"look at {self._root}"))
        except BadInput as fault:
            self._lock(fault)
        else:
            self._unlock(key)

    async def watch(self) -> None:
        await asyncio.to_thread(self.look)

    async def step(self) -> None:
        """Do batches; without the key nothing more is sealed that nobody could open after a restart. Raises OSError."""
        if self._hub.content_fault is not None:
            await self._let_go()
        elif self._hub.archive is not None and self._leader is None:
            self._leader = Leader(self._hub, self._hub.archive)
        if self._leader is not None:
            await self._leader.step()

    async def close(self) -> None:
        await self._let_go()
        if self._hub.archive is not None:
            self._hub.archive.close()

    async def _let_go(self) -> None:
        leader, self._leader = self._leader, None
        if leader is not None:
            await leader.close()

    def _lock(self, fault: BadInput) -> None:
        self._hub.content_fault = fault
        if fault.detail != self._said:
            log.error("content_key.locked", error=fault.detail, remedy=fault.remedy)
            self._said = fault.detail

    def _unlock(self, key: bytes) -> None:
        self._hub.content_fault = None
        if self._key is None:
            self._key = key
            self._hub.archive = self._open(key)
        if self._said:
            log.info("content_key.taken_up", file=str(self._path))
            self._said = ""

    def _open(self, key: bytes) -> Archive:
        settings = self._settings
        limits = BatchLimits(all_bytes=settings.content_bytes, project_bytes=settings.content_bytes // 2)
        zone = _zone_of(settings.upstream_tls.certificate)
        return Archive(self._root, key, self._hub.clock, zone=zone, limits=limits)


@asynccontextmanager
async def files_of(hub: Hub, settings: GatewaySettings) -> AsyncIterator[list[Loop]]:
    """Return what follows the content key and does this node's batches; none without a content_key in the settings."""
    if settings.content_key is None:
        yield []
        return
    files = KeptFiles(hub, settings, settings.content_key)
    files.look()
    yield [
        partial(run_every, "content_key", LOOK_S, files.watch),
        partial(run_every, "batches", EVERY_S, files.step),
    ]
    await files.close()


def _zone_of(certificate: Path) -> str:
    """Return the zone that the certificate names, "" where it names none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ""
    zones = (_ZONE.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier))
    return next((zone[1] for zone in zones if zone), "")
