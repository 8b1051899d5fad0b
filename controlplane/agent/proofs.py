"""The newest isolation proofs on this node, its own and the whole site's, judged by the product's own rules."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from controlplane.contracts.proof import LAST_PROOF, LAST_SITE_PROOF, NodePart, ProofSummary, Signed, SiteProof
from controlplane.domains.health.rules import judge_node, judge_site
from controlplane.domains.health.types import Judgement
from controlplane.kit.canonical import sha256_hex

MOST_REASONS, LONGEST_REASON = 20, 300


def read_proof(path: Path = Path(LAST_PROOF)) -> ProofSummary | None:
    """Return what the node last proved; None where it has not, or where nobody can read it: then it grows stale."""
    try:
        signed = Signed.model_validate_json(path.read_bytes())
        part = NodePart.model_validate_json(signed.payload)
    except (OSError, ValidationError):
        return None
    return _summary(signed, judge_node(part), part.ended_at)


def read_site_proof(path: Path = Path(LAST_SITE_PROOF)) -> ProofSummary | None:
    """Return what the whole site last proved; None where it is not kept, which is everywhere but with the authority."""
    try:
        stamp = path.stat()
    except OSError:
        return None
    return _judged(path, stamp.st_ino, stamp.st_mtime_ns)


@lru_cache(maxsize=1)  # the proof of a large site is large, and a report goes out every few seconds
def _judged(path: Path, *_stamp: int) -> ProofSummary | None:
    try:
        signed = Signed.model_validate_json(path.read_bytes())
        proof = SiteProof.model_validate_json(signed.payload)
    except (OSError, ValidationError):
        return None
    return _summary(signed, judge_site(proof, dict(_parts(proof))), proof.ended_at)


def _parts(proof: SiteProof) -> Iterator[tuple[str, NodePart]]:
    """Return the parts that can be read; a node without one is in doubt."""
    for name, signed in proof.nodes.items():
        try:
            yield name, NodePart.model_validate_json(signed.payload)
        except ValidationError:
            continue


def _summary(signed: Signed, judged: Judgement, ended_at: datetime) -> ProofSummary:
    reasons = tuple(reason[:LONGEST_REASON] for reason in judged.reasons[:MOST_REASONS])
    digest = sha256_hex(signed.payload.encode())
    return ProofSummary(sha256=digest, verdict=judged.verdict, reasons=reasons, ended_at=ended_at)
