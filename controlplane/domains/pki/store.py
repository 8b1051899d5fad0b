from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from controlplane.contracts.pki import LeafReading
from controlplane.domains.pki.tables import IssuedCertificate, JoinToken, NodeJoin, Revocation, SeenLeaf
from controlplane.domains.pki.types import JoinState
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx, changed_one


def add(tx: Tx, row: JoinToken | NodeJoin | IssuedCertificate | Revocation) -> None:
    tx.session.add(row)


async def mark_token_used(tx: Tx, sha256: str) -> JoinToken | None:
    """Spend a live token; one conditional UPDATE, so that of two askers one wins."""
    live = (JoinToken.sha256 == sha256) & JoinToken.used_at.is_(None) & (JoinToken.expires_at > tx.now)
    done = await tx.session.scalars(update(JoinToken).where(live).values(used_at=tx.now).returning(JoinToken))
    return done.one_or_none()


async def mark_tokens_expired(tx: Tx, node: str) -> None:
    unused = (JoinToken.node == node) & JoinToken.used_at.is_(None) & (JoinToken.expires_at > tx.now)
    await tx.session.execute(update(JoinToken).where(unused).values(expires_at=tx.now))


async def mark_joins_refused(tx: Tx, node: str, by: str) -> None:
    waiting = (NodeJoin.node == node) & (NodeJoin.state == JoinState.WAITING)
    values = {"state": JoinState.REFUSED, "decided_at": tx.now, "decided_by": by}
    await tx.session.execute(update(NodeJoin).where(waiting).values(values))


async def find_join_of_token(tx: Tx, sha256: str) -> NodeJoin | None:
    query = select(NodeJoin).join(JoinToken, JoinToken.id == NodeJoin.token_id).where(JoinToken.sha256 == sha256)
    return (await tx.session.scalars(query)).one_or_none()


async def find_join(tx: Tx, join_id: str) -> NodeJoin | None:
    return await tx.session.get(NodeJoin, join_id, with_for_update=True)


async def list_joins(tx: Tx, page: Page, *, only_waiting: bool) -> Sequence[NodeJoin]:
    query = select(NodeJoin).order_by(NodeJoin.id).limit(page.limit)
    if only_waiting:
        query = query.where(NodeJoin.state == JoinState.WAITING)
    if page.after is not None:
        query = query.where(NodeJoin.id > page.after)
    return (await tx.session.scalars(query)).all()


async def find_open_revocation(tx: Tx, node: str) -> Revocation | None:
    mine = (Revocation.node == node) & Revocation.lifted_at.is_(None)
    return (await tx.session.scalars(select(Revocation).where(mine))).one_or_none()


async def find_last_revocation(tx: Tx, node: str) -> Revocation | None:
    """Return the one that covers most: an open one, else the one that was lifted last."""
    query = select(Revocation).where(Revocation.node == node).order_by(Revocation.lifted_at.desc().nulls_first())
    return (await tx.session.scalars(query.limit(1))).one_or_none()


async def mark_open_revocation(tx: Tx, row: Revocation) -> bool:
    """Write a revocation unless one is open; say whether it was written. Two askers make one."""
    values = {
        "id": row.id, "node": row.node, "reason": row.reason, "revoked_at": row.revoked_at, "revoked_by": row.revoked_by
    }  # fmt: skip
    return await changed_one(tx, insert(Revocation).values(values).on_conflict_do_nothing())


async def mark_revocations_lifted(tx: Tx, node: str, at: datetime) -> bool:
    mine = (Revocation.node == node) & Revocation.lifted_at.is_(None)
    return await changed_one(tx, update(Revocation).where(mine).values(lifted_at=at))


async def list_revocations(tx: Tx) -> Sequence[Revocation]:
    return (await tx.session.scalars(select(Revocation).order_by(Revocation.node, Revocation.id))).all()


async def mark_seen(tx: Tx, node: str, leaves: Iterable[LeafReading]) -> None:
    """Write what lies on a node; the same again writes nothing."""
    told = {leaf.name: leaf for leaf in leaves}
    known = await tx.session.execute(select(SeenLeaf.name, SeenLeaf.serial).where(SeenLeaf.node == node))
    if {(name, serial) for name, serial in known} == {(leaf.name, leaf.serial) for leaf in told.values()}:
        return
    gone = (SeenLeaf.node == node) & SeenLeaf.name.not_in(told)
    await tx.session.execute(delete(SeenLeaf).where(gone))
    for leaf in told.values():
        values = {**leaf.model_dump(), "node": node, "seen_at": tx.now}
        upsert = insert(SeenLeaf).values(values)
        await tx.session.execute(
            upsert.on_conflict_do_update(
                index_elements=["node", "name"], set_=values, where=SeenLeaf.serial != leaf.serial
            )
        )


async def list_seen(tx: Tx) -> Sequence[SeenLeaf]:
    return (await tx.session.scalars(select(SeenLeaf).order_by(SeenLeaf.node, SeenLeaf.name))).all()
