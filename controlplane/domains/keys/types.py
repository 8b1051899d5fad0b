"""What an inference key is bound to."""

from dataclasses import dataclass
from datetime import datetime

from controlplane.contracts.snapshot import Priority

PREFIX = "rdk"


@dataclass(frozen=True)
class Bounds:
    """No endpoints or zones means all of them, no sources any address; `classification` is the highest, 0 to 3.

    `jurisdictions` are where its data may be, none: wherever the rest lets it. `priority` is the highest too.
    """

    project: str
    endpoints: tuple[str, ...]
    zones: tuple[str, ...]
    purposes: tuple[str, ...]
    classification: int
    sources: tuple[str, ...]
    jurisdictions: tuple[str, ...] = ()
    priority: Priority = "interactive"


@dataclass(frozen=True)
class LiveSecret:
    secret_id: str
    sha256: str
    expires_at: datetime


@dataclass(frozen=True)
class LiveKey:
    """A key as a gateway must know it."""

    key_id: str
    bounds: Bounds
    secrets: tuple[LiveSecret, ...]


@dataclass(frozen=True)
class Use:
    """The newest use of a secret that a gateway tells of."""

    secret_id: str
    at: datetime
