"""The newest isolation proof of this node, judged by the product's own rules."""

from pathlib import Path

from pydantic import ValidationError

from controlplane.contracts.proof import LAST_PROOF, NodePart, ProofSummary, Signed
from controlplane.domains.health.rules import judge_node
from controlplane.kit.canonical import sha256_hex

MOST_REASONS, LONGEST_REASON = 20, 300


def read_proof(path: Path = Path(LAST_PROOF)) -> ProofSummary | None:
    """Return what the node last proved; None where it has not, or where nobody can read it: then it grows stale."""
    try:
        signed = Signed.model_validate_json(path.read_bytes())
        part = NodePart.model_validate_json(signed.payload)
    except (OSError, ValidationError):
        return None
    judged = judge_node(part)
    reasons = tuple(reason[:LONGEST_REASON] for reason in judged.reasons[:MOST_REASONS])
    digest = sha256_hex(signed.payload.encode())
    return ProofSummary(sha256=digest, verdict=judged.verdict, reasons=reasons, ended_at=part.ended_at)
