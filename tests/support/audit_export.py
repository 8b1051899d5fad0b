"""Exports of made-up logs: whole, and with everything that an attacker could do to them."""

from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.client.audit_export import write_export
from controlplane.contracts.audit import Checkpoint, Entry, Proof
from controlplane.domains.audit import rules
from controlplane.domains.audit.types import Actor, Role
from controlplane.kit import note
from controlplane.kit.merkle import Span, cover, fold, inclusion_spans, leaf_hash, perfect

ORIGIN = "redoubt/north"
LOG_KEY = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(b"W" * 32)
WITNESS = "redoubt/north/gpu1"
START = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def entry_of(number: int, *, at: datetime | None = None, event: str = "node.cordoned", **details: Any) -> str:
    """Return the canonical JSON of a made-up event."""
    around = rules.Surrounding(at or START + timedelta(seconds=number), "ctl1", "boot-1", f"req_{number}", "ab" * 32)
    actor = Actor("prn_ada", Role.OPERATOR, session="ses_1", method="passkey", source="10.0.0.9")
    made = rules.compose(
        f"evt_{number:020d}", actor, event, f"gpu{number}", {"number": number, **details}, around=around, key=b"k" * 32
    )
    return made.body


@dataclass
class MadeLog:
    """A log in memory, with its keys; `checkpoint_at` are the sizes that get signed."""

    bodies: list[str]
    checkpoint_at: Sequence[int]
    origin: str = ORIGIN
    key: Ed25519PrivateKey = LOG_KEY
    keys_from: dict[int, Ed25519PrivateKey] = field(default_factory=dict)
    witnessed: bool = True
    witness_key: Ed25519PrivateKey = WITNESS_KEY
    purged_before: int = 0

    def root(self, span: Span) -> bytes:
        def subtree(height: int, index: int) -> bytes:
            part = self.bodies[index << height : (index + 1) << height]
            return perfect([leaf_hash(body.encode()) for body in part])

        return fold([subtree(*part) for part in cover(span)])

    def note(self, size: int) -> str:
        key = next((k for start, k in sorted(self.keys_from.items(), reverse=True) if size >= start), self.key)
        made = note.sign_checkpoint(note.Checkpoint(self.origin, size, self.root(Span(0, size))), key)
        seal = str(note.cosign(made.body, WITNESS, self.witness_key, int(START.timestamp()) + size))
        return str(made) + (seal if self.witnessed else "")

    def checkpoints(self) -> list[Checkpoint]:
        keys = {size: next((k for s, k in sorted(self.keys_from.items(), reverse=True) if size >= s), self.key)
                for size in self.checkpoint_at}  # fmt: skip
        return [
            Checkpoint(
                size=size,
                root=self.root(Span(0, size)).hex(),
                note=self.note(size),
                signer=str(note.verifier_key(self.origin, keys[size])),
                made_at=START,
            )
            for size in self.checkpoint_at
        ]

    def entries(self) -> list[Entry]:
        return [
            Entry(index=i, hash=leaf_hash(b.encode()).hex(), body=None if i < self.purged_before else b)
            for i, b in enumerate(self.bodies)
        ]

    def proof(self, index: int) -> Proof:
        size = max(self.checkpoint_at)
        hashes = [self.root(span) for span in inclusion_spans(index, size)]
        event_id = self.bodies[index].split('"event_id":"')[1][:24]
        return Proof(event_id=event_id, proof=note.write_proof(index, hashes, self.note(size)))

    def export(self, folder: Path, *, proofs: Sequence[int] = ()) -> Path:
        write_export(
            folder,
            self.checkpoints(),
            self.entries(),
            witness_keys=[witness_key(self.witness_key)] if self.witnessed else [],
            proofs=[self.proof(index) for index in proofs],
        )
        return folder


def make_log(count: int = 20, checkpoint_at: Sequence[int] = (7, 13, 20)) -> MadeLog:
    return MadeLog([entry_of(number) for number in range(count)], checkpoint_at)


def log_key(log: MadeLog) -> str:
    return str(note.verifier_key(log.origin, log.key))


def witness_key(key: Ed25519PrivateKey = WITNESS_KEY) -> str:
    return str(note.verifier_key(WITNESS, key, note.WITNESS_KEY))


def hashes_of(proof: str) -> list[bytes]:
    """Return the hashes of a tlog-proof."""
    return [b64decode(line) for line in proof.partition("\n\n")[0].split("\n")[2:]]
