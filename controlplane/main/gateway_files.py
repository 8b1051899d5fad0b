"""What a gateway needs to keep files: the node's key, the folder, and the zone it stands in."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.leader import EVERY_S, Leader
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.hub import Hub
from controlplane.kit.clock import Clock
from controlplane.kit.errors import BadInput
from controlplane.kit.loop import run_every
from controlplane.main.gateway_leaves import Loop
from controlplane.main.settings import GatewaySettings

_ZONE = re.compile(r"redoubt://[^/]+/zone/([^/]+)/service/[^/]+")
_SHORTEST_SECRET = 32


def open_archive(settings: GatewaySettings, clock: Clock) -> Archive | None:
    """Return what keeps files, None where no key seals them."""
    if settings.content_key is None:
        return None
    limits = BatchLimits(all_bytes=settings.content_bytes, project_bytes=settings.content_bytes // 2)
    zone = _zone_of(settings.upstream_tls.certificate)
    return Archive(settings.state_dir / "content", _read_key(settings.content_key), clock, zone=zone, limits=limits)


@asynccontextmanager
async def batches_of(hub: Hub) -> AsyncIterator[list[Loop]]:
    """Return the loop that does this node's batches, in one of its workers; at the end they are let go of."""
    archive = hub.archive
    if archive is None:
        yield []
        return
    leader = Leader(hub, archive)
    yield [partial(run_every, "batches", EVERY_S, leader.step)]
    await leader.close()
    archive.close()


def _read_key(path: Path) -> bytes:
    """Return 256 bits of the secret in the file. Raises BadInput."""
    remedy = f"make it: head -c 32 /dev/urandom | base64 > {path}, mode 0400, owned by the gateway's user"
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadInput(f"content_key cannot be read: {error}", remedy=remedy) from None
    if len(secret) < _SHORTEST_SECRET:
        raise BadInput(f"content_key holds under {_SHORTEST_SECRET} characters", remedy=remedy)
    return sha256(secret).digest()


def _zone_of(certificate: Path) -> str:
    """Return the zone that the certificate names, "" where it names none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ""
    zones = (_ZONE.fullmatch(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier))
    return next((zone[1] for zone in zones if zone), "")
