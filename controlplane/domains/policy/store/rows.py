from collections.abc import Sequence

from sqlalchemy import Update, delete, func, select, update

from controlplane.domains.policy.tables import Approval, PolicyDecision, PolicyPublication, PolicySet
from controlplane.kit.errors import BadInput
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx, changed_one

KEPT_DECISIONS = 20_000


def add(tx: Tx, row: PolicySet | PolicyPublication | Approval | PolicyDecision) -> None:
    tx.session.add(row)


async def find_set(tx: Tx, version: int) -> PolicySet | None:
    return await tx.session.get(PolicySet, version)


async def list_sets(tx: Tx, page: Page) -> Sequence[PolicySet]:
    """Newest first."""
    query = select(PolicySet).order_by(PolicySet.version.desc()).limit(page.limit)
    if page.after is not None:
        query = query.where(PolicySet.version < _number(page.after))
    return (await tx.session.scalars(query)).all()


async def newest_publication(tx: Tx) -> int:
    """Return the number of the publication in force, 0 where the shipped set is."""
    return await tx.session.scalar(select(func.max(PolicyPublication.number))) or 0


async def find_published_set(tx: Tx, number: int) -> PolicySet | None:
    """Return what a publication brought into force; None is the shipped set."""
    query = select(PolicySet).join(PolicyPublication, PolicyPublication.version == PolicySet.version)
    return (await tx.session.scalars(query.where(PolicyPublication.number == number))).one_or_none()


async def list_publications(tx: Tx, page: Page) -> Sequence[PolicyPublication]:
    """Newest first."""
    query = select(PolicyPublication).order_by(PolicyPublication.number.desc()).limit(page.limit)
    if page.after is not None:
        query = query.where(PolicyPublication.number < _number(page.after))
    return (await tx.session.scalars(query)).all()


async def list_newest_decisions(tx: Tx, most: int) -> Sequence[PolicyDecision]:
    """Newest first."""
    return (await tx.session.scalars(select(PolicyDecision).order_by(PolicyDecision.seq.desc()).limit(most))).all()


async def delete_old_decisions(tx: Tx) -> None:
    """Keep the newest. Two that delete at once take different rows, so that neither waits for the other."""
    oldest = select(func.max(PolicyDecision.seq) - KEPT_DECISIONS).scalar_subquery()
    old = select(PolicyDecision.seq).where(PolicyDecision.seq <= oldest).with_for_update(skip_locked=True)
    await tx.session.execute(delete(PolicyDecision).where(PolicyDecision.seq.in_(old)))


async def find_approval(tx: Tx, approval_id: str) -> Approval | None:
    return await tx.session.get(Approval, approval_id, populate_existing=True)


async def list_approvals(tx: Tx, page: Page, *, only_open: bool) -> Sequence[Approval]:
    """Newest first."""
    query = select(Approval).order_by(Approval.number.desc()).limit(page.limit)
    if only_open:
        query = query.where(Approval.spent_at.is_(None), Approval.refused_at.is_(None), Approval.expires_at > tx.now)
    if page.after is not None:
        query = query.where(Approval.number < _number(page.after))
    return (await tx.session.scalars(query)).all()


async def mark_approved(tx: Tx, approval_id: str, by: str) -> bool:
    return await _change(tx, _undecided(tx, approval_id).values(approved_by=by, approved_at=tx.now))


async def mark_refused(tx: Tx, approval_id: str, by: str) -> bool:
    return await _change(tx, _undecided(tx, approval_id).values(refused_by=by, refused_at=tx.now))


async def mark_spent(tx: Tx, approval_id: str, by: str, action: str, subject_sha256: str) -> bool:
    """Use a live approval up; one conditional UPDATE, so that of many askers one wins."""
    live = (
        (Approval.id == approval_id)
        & (Approval.action == action)
        & (Approval.subject_sha256 == subject_sha256)
        & Approval.approved_at.is_not(None)
        & Approval.spent_at.is_(None)
        & (Approval.expires_at > tx.now)
    )
    return await _change(tx, update(Approval).where(live).values(spent_by=by, spent_at=tx.now))


def _undecided(tx: Tx, approval_id: str) -> Update:
    return update(Approval).where(
        Approval.id == approval_id,
        Approval.approved_at.is_(None),
        Approval.refused_at.is_(None),
        Approval.expires_at > tx.now,
    )


async def _change(tx: Tx, change: Update) -> bool:
    return await changed_one(tx, change.execution_options(synchronize_session=False))


def _number(cursor: str) -> int:
    if not cursor.isdecimal():
        raise BadInput("the cursor is not one of this list", remedy="start again without a cursor")
    return int(cursor)
