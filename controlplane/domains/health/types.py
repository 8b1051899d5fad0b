from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.contracts.proof import Verdict


class IncidentKind(StrEnum):
    """What is wrong with a node or the site: its boundary, what is known of that, its certificates, its audit log."""

    LEAK = "boundary-leak"
    UNPROVEN = "boundary-unproven"
    STALE = "proof-stale"
    BREAK_GLASS_OPEN = "break-glass-open"
    BREAK_GLASS_UNSEALED = "break-glass-unsealed"
    ENDING = "certificate-ending"
    WITNESS_REFUSES = "witness-refuses"
    FEW_WITNESSES = "witnesses-few"


@dataclass(frozen=True)
class Judgement:
    """A verdict and every reason against `isolated`."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """Something that is wrong now. `evidence_sha256` is that of the proof that shows it, "" where none came."""

    kind: IncidentKind
    subject: str
    detail: str
    evidence_sha256: str


@dataclass(frozen=True)
class NewestProof:
    """What a node last told of its boundary; `at` is when it was made or, if earlier by this clock, when it came."""

    sha256: str
    verdict: Verdict
    reasons: tuple[str, ...]
    at: datetime
