from collections.abc import Iterable, Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import selectinload

from controlplane.domains.keys.rules import USE_COUNTS_AFTER
from controlplane.domains.keys.tables import InferenceKey, KeySecret
from controlplane.domains.keys.types import Use
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

_SECRETS = selectinload(InferenceKey.secrets)


def add(tx: Tx, row: InferenceKey | KeySecret) -> None:
    tx.session.add(row)


async def find_key(tx: Tx, key_id: str) -> InferenceKey | None:
    """Return a key and its secrets, locked: two rotations at once must not both find a free slot."""
    query = select(InferenceKey).where(InferenceKey.id == key_id).with_for_update().options(_SECRETS)
    return (await tx.session.scalars(query)).one_or_none()


async def list_keys(tx: Tx, page: Page, *, project: str) -> Sequence[InferenceKey]:
    """Return keys of one project, or of all for ""."""
    query = select(InferenceKey).order_by(InferenceKey.id).limit(page.limit).options(_SECRETS)
    if project:
        query = query.where(InferenceKey.project == project)
    if page.after is not None:
        query = query.where(InferenceKey.id > page.after)
    return (await tx.session.scalars(query)).all()


async def list_live(tx: Tx) -> Sequence[tuple[InferenceKey, KeySecret]]:
    live = InferenceKey.revoked_at.is_(None) & KeySecret.ended_at.is_(None) & (KeySecret.expires_at > tx.now)
    query = (
        select(InferenceKey, KeySecret)
        .join(KeySecret, KeySecret.key_id == InferenceKey.id)
        .where(live)
        .order_by(InferenceKey.id, KeySecret.slot)
    )
    return [(key, secret) for key, secret in (await tx.session.execute(query)).all()]


async def mark_used(tx: Tx, uses: Iterable[Use]) -> None:
    """Move "last used" forwards, coarsely and never back."""
    for use in uses:
        is_news = KeySecret.last_used_at.is_(None) | (KeySecret.last_used_at < use.at - USE_COUNTS_AFTER)
        mine = (KeySecret.id == use.secret_id) & is_news
        await tx.session.execute(update(KeySecret).where(mine).values(last_used_at=use.at))
