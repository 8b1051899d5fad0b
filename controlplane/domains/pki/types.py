"""Who a machine is, as its certificate says it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Kind(StrEnum):
    NODE = "node"
    SERVICE = "service"


class Standing(StrEnum):
    """What a leaf is worth now. `lapsed`: over, and still good for asking for its successor."""

    EARLY = "early"
    VALID = "valid"
    LAPSED = "lapsed"
    OVER = "over"


class Cause(StrEnum):
    """Why a leaf was issued."""

    JOIN = "join"
    RENEWAL = "renewal"
    LATE_RENEWAL = "late-renewal"
    OWN = "own"


class JoinState(StrEnum):
    WAITING = "waiting"
    ISSUED = "issued"
    REFUSED = "refused"


@dataclass(frozen=True)
class PresentLeaf:
    """The leaf that a machine showed. `node` is the machine it belongs to: a service's leaf names it too.

    `not_before` is when it was issued: leaves of machines are not dated back, so that a revocation can tell old from
    new by it. `fingerprint` is that of its public key.
    """

    site: str
    zone: str
    kind: Kind
    name: str
    node: str
    dns: tuple[str, ...]
    ip: tuple[str, ...]
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime

    @property
    def uri(self) -> str:
        return f"redoubt://{self.site}/zone/{self.zone}/{self.kind}/{self.name}"


@dataclass(frozen=True)
class LeafTerms:
    """How long leaves are and how a site lets machines in; one value per site."""

    life_s: int = 48 * 3600
    grace_s: int = 14 * 86400
    joins_need_approval: bool = False


@dataclass(frozen=True)
class Refusal:
    """Leaves of a node that no server may take: all of them, or those issued before that moment."""

    node: str
    before: datetime | None


@dataclass(frozen=True)
class EndingLeaf:
    """A leaf that is near its end or past it, and that nobody renewed."""

    node: str
    name: str
    not_after: datetime
