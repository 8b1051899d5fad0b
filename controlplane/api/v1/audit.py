"""What happened, and the proof of it."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_audit_event
from controlplane.contracts import admin
from controlplane.contracts import audit as shapes
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.tables import AuditCheckpoint, AuditHold
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
    """Return what each witness signed last, by each key that it ever had: an export needs them all."""
    await policy.require(tx, actor, "audit.read", "site")
    found = await audit.list_witness_keys(tx)
    size = await audit.count_leaves(tx)
    shown = [
        shapes.Witness(
            witness=row.witness, size=row.size, behind=size - row.size, verifier_key=row.verifier_key, at=row.at
        )
        for row in found
    ]
    return admin.Rows(items=tuple(shown), cursor=None)


@router.post("/audit/holds", status_code=201)
async def place_hold(body: shapes.PlaceHold, tx: Transaction, actor: Person) -> shapes.Hold:
    """Keep everything: nothing is purged or erased until the hold is released."""
    await policy.require(tx, actor, "audit.hold", "site")
    return _to_hold(await audit.place_hold(tx, actor, reason=body.reason))


@router.get("/audit/holds")
async def list_holds(tx: Transaction, actor: Person) -> admin.Rows[shapes.Hold]:
    """Return the holds that are open."""
    await policy.require(tx, actor, "audit.read", "site")
    return admin.Rows(items=tuple(_to_hold(row) for row in await audit.list_holds(tx)), cursor=None)


@router.post("/audit/holds/{hold_id}/release")
async def release_hold(hold_id: str, body: shapes.Release, tx: Transaction, actor: Person) -> shapes.Hold:
    """End a hold; two people agreed to it."""
    await policy.require(tx, actor, "audit.release", "site")
    await policy.spend_approval(tx, actor, body.approval, "audit.release", {"hold": hold_id})
    return _to_hold(await audit.release_hold(tx, actor, hold_id=hold_id))


@router.post("/audit/purges", status_code=201)
async def purge(body: shapes.Purge, tx: Transaction, actor: Person) -> shapes.Purged:
    """Drop bodies that are older than so many months; two people agreed to it. Hashes and proofs stay."""
    await policy.require(tx, actor, "audit.purge", "site")
    await policy.spend_approval(tx, actor, body.approval, "audit.purge", {"months": body.months})
    before, bodies = await audit.purge(tx, actor, months=body.months)
    return shapes.Purged(before_leaf=before, bodies=bodies)


@router.post("/audit/erasures", status_code=201)
async def erase(body: shapes.Erase, tx: Transaction, actor: Person) -> shapes.Erased:
    """Make a person's side records unreadable for ever; two people agreed to it. The log and its proofs stay."""
    await policy.require(tx, actor, "audit.erase", "site")
    await policy.spend_approval(tx, actor, body.approval, "audit.erase", {"subject": body.subject})
    return shapes.Erased(subject=body.subject, records=await audit.erase(tx, actor, subject=body.subject))


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


def _to_hold(row: AuditHold) -> shapes.Hold:
    return shapes.Hold(id=row.id, reason=row.reason, placed_by=row.placed_by, placed_at=row.placed_at)
