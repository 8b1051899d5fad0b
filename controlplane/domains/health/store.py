from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from controlplane.contracts.proof import Covers, ProofSummary
from controlplane.domains.health.tables import Incident, NodeProof
from controlplane.kit.errors import BadInput
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


async def list_proofs(tx: Tx) -> Sequence[NodeProof]:
    return (await tx.session.scalars(select(NodeProof))).all()


async def mark_proof(tx: Tx, node: str, covers: Covers, proof: ProofSummary) -> None:
    """Keep a proof that is another than the one that is there; the same again leaves its time of arrival."""
    told = {**proof.model_dump(), "reasons": list(proof.reasons), "received_at": tx.now}
    upsert = insert(NodeProof).values(node=node, covers=covers, **told)
    another = NodeProof.sha256 != proof.sha256
    if covers == "site" and proof.verdict == "isolated":  # an older file put back must not end a leak
        another &= func.least(NodeProof.ended_at, NodeProof.received_at) < min(proof.ended_at, tx.now)
    key = ["node", "covers"]
    await tx.session.execute(upsert.on_conflict_do_update(index_elements=key, set_=told, where=another))


async def list_open_incidents(tx: Tx) -> Sequence[Incident]:
    """Return what is open, locked: two loops must not both close it."""
    query = select(Incident).where(Incident.closed_at.is_(None)).order_by(Incident.number).with_for_update()
    return (await tx.session.scalars(query)).all()


async def find_last_closed(tx: Tx, kind: str, subject: str) -> Incident | None:
    mine = (Incident.kind == kind) & (Incident.subject == subject) & Incident.closed_at.is_not(None)
    return (await tx.session.scalars(select(Incident).where(mine).order_by(Incident.closed_at.desc()).limit(1))).first()


async def list_incidents(tx: Tx, page: Page, *, only_open: bool) -> Sequence[Incident]:
    """Newest first."""
    query = select(Incident).order_by(Incident.number.desc()).limit(page.limit)
    if only_open:
        query = query.where(Incident.closed_at.is_(None))
    if page.after is not None:
        if not page.after.isdecimal():
            raise BadInput("the cursor is not one of this list", remedy="start again without a cursor")
        query = query.where(Incident.number < int(page.after))
    return (await tx.session.scalars(query)).all()


async def find_incident(tx: Tx, incident_id: str) -> Incident | None:
    return await tx.session.get(Incident, incident_id)


def add(tx: Tx, row: Incident) -> None:
    tx.session.add(row)
