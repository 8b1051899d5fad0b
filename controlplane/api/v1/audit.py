"""What happened, and the proof of it."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_audit_event
from controlplane.contracts import admin
from controlplane.contracts import audit as shapes
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.tables import AuditCheckpoint
from controlplane.domains.policy import service as policy
from controlplane.kit.tx import Tx
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["audit"])

Size = Annotated[int | None, Query(ge=1, le=2**62)]
Leaves = Annotated[int, Query(ge=1, le=2**62)]


@router.get("/audit-events")
async def list_events(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[admin.AuditEvent]:
    """Return events, newest first."""
    await policy.require(tx, actor, "audit.read", "site")
    return rows(page, await audit.list_events(tx, page), to_audit_event, lambda row: row.seq)


@router.get("/audit/events/{event_id}")
async def get_event(event_id: str, tx: Transaction, actor: Person) -> shapes.FullEvent:
    """Return one event in full. What it says of a person is shown, so the look is recorded."""
    await policy.require(tx, actor, "audit.read", "site")
    found = await audit.get_event(tx, event_id)
    if found.personal:
        await audit.record(tx, actor, "audit.personal_read", event_id)
    return shapes.FullEvent(
        event_id=event_id, leaf_index=found.leaf_index, entry=found.event.body, personal=found.personal or ""
    )


@router.get("/audit/events/{event_id}/proof")
async def get_proof(event_id: str, tx: Transaction, actor: Person, size: Size = None) -> shapes.Proof:
    """Return the proof that an event is in the log, for the checkpoint of `size` or the newest."""
    await policy.require(tx, actor, "audit.read", "site")
    return shapes.Proof(event_id=event_id, proof=await audit.prove_inclusion(tx, event_id=event_id, size=size))


@router.get("/audit/entries")
async def list_entries(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[shapes.Entry]:
    """Return the log's leaves in their order."""
    await policy.require(tx, actor, "audit.read", "site")
    return rows(page, await audit.list_entries(tx, page), _to_entry, lambda row: row[0])


@router.get("/audit/checkpoint")
async def get_checkpoint(tx: Transaction, actor: Person, size: Size = None) -> shapes.Checkpoint:
    """Return the newest checkpoint, or that of `size`, with what witnesses signed of it."""
    await policy.require(tx, actor, "audit.read", "site")
    return await to_checkpoint(tx, await audit.get_checkpoint(tx, size))


@router.get("/audit/checkpoints")
async def list_checkpoints(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[shapes.Checkpoint]:
    """Return every checkpoint, oldest first."""
    await policy.require(tx, actor, "audit.read", "site")
    found = [await to_checkpoint(tx, row) for row in await audit.list_checkpoints(tx, page)]
    return rows(page, found, lambda row: row, lambda row: row.size)


@router.get("/audit/consistency")
async def get_consistency(tx: Transaction, actor: Person, first: Leaves, second: Leaves) -> shapes.Consistency:
    """Return the proof that nothing between two sizes was changed."""
    await policy.require(tx, actor, "audit.read", "site")
    hashes = await audit.prove_consistency(tx, first=first, second=second)
    return shapes.Consistency(first=first, second=second, hashes=tuple(hashes))


@router.get("/audit/witnesses")
async def list_witnesses(tx: Transaction, actor: Person) -> admin.Rows[shapes.Witness]:
    """Return what each witness signed last."""
    await policy.require(tx, actor, "audit.read", "site")
    found = await audit.list_witnesses(tx)
    size = await audit.count_leaves(tx)
    shown = [
        shapes.Witness(
            witness=row.witness, size=row.size, behind=size - row.size, verifier_key=row.verifier_key, at=row.at
        )
        for row in found
    ]
    return admin.Rows(items=tuple(shown), cursor=None)


async def to_checkpoint(tx: Tx, row: AuditCheckpoint) -> shapes.Checkpoint:
    return shapes.Checkpoint(
        size=row.size,
        root=row.root.hex(),
        note=await audit.sign_note(tx, row),
        signer=row.signer,
        made_at=row.made_at,
    )


def _to_entry(row: tuple[int, bytes, str | None]) -> shapes.Entry:
    return shapes.Entry(index=row[0], hash=row[1].hex(), body=row[2])
