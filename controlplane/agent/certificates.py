"""The certificates that lie on this node, public halves only: so the control plane knows which one nobody renews."""

from pathlib import Path

from cryptography import x509

from controlplane.contracts.pki import LeafReading
from controlplane.kit.issuing import serial_of

FOLDER = Path("/etc/redoubt/tls")
AUTHORITIES = frozenset({"ca", "issuing"})
MOST = 16


def read_certificates(folder: Path = FOLDER) -> tuple[LeafReading, ...]:
    """Return every leaf of the folder; one that cannot be read is not there."""
    return tuple(leaf for path in sorted(folder.glob("*.crt"))[:MOST] if (leaf := _read(path)) is not None)


def _read(path: Path) -> LeafReading | None:
    if path.stem in AUTHORITIES:
        return None
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return LeafReading(
        name=path.stem,
        serial=serial_of(found),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
    )
