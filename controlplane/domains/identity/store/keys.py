from collections.abc import Sequence
from typing import cast

from sqlalchemy import CursorResult, func, select, update

from controlplane.domains.identity.tables import ApiKey, EnrolmentCode, Principal, RoleGrant
from controlplane.domains.identity.types import KeyKind
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


def add(tx: Tx, row: Principal | RoleGrant | ApiKey | EnrolmentCode) -> None:
    tx.session.add(row)


async def count_principals(tx: Tx) -> int:
    return await tx.session.scalar(select(func.count()).select_from(Principal)) or 0


async def mark_code_used(tx: Tx, sha256: str) -> bool:
    """Use a live code up; one conditional UPDATE, so that of two askers one wins."""
    live = (EnrolmentCode.sha256 == sha256) & EnrolmentCode.used_at.is_(None) & (EnrolmentCode.expires_at > tx.now)
    done = await tx.session.execute(update(EnrolmentCode).where(live).values(used_at=tx.now))
    return cast("CursorResult[object]", done).rowcount == 1  # an UPDATE always gives a CursorResult


async def mark_codes_expired(tx: Tx) -> None:
    unused = EnrolmentCode.used_at.is_(None) & (EnrolmentCode.expires_at > tx.now)
    await tx.session.execute(update(EnrolmentCode).where(unused).values(expires_at=tx.now))


async def find_key_by_digest(tx: Tx, sha256: str) -> tuple[ApiKey, Principal] | None:
    query = (
        select(ApiKey, Principal).join(Principal, Principal.id == ApiKey.principal_id).where(ApiKey.sha256 == sha256)
    )
    row = (await tx.session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def find_key(tx: Tx, key_id: str) -> ApiKey | None:
    return await tx.session.get(ApiKey, key_id, with_for_update=True)


async def list_keys(tx: Tx, page: Page) -> Sequence[ApiKey]:
    query = select(ApiKey).order_by(ApiKey.id).limit(page.limit)
    if page.after is not None:
        query = query.where(ApiKey.id > page.after)
    return (await tx.session.scalars(query)).all()


async def count_live_admin_keys(tx: Tx) -> int:
    live = ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > tx.now))
    query = select(func.count()).select_from(ApiKey).where(ApiKey.kind == KeyKind.ADMIN, live)
    return await tx.session.scalar(query) or 0


async def list_live_inference_keys(tx: Tx) -> Sequence[ApiKey]:
    live = ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > tx.now))
    query = select(ApiKey).where(ApiKey.kind == KeyKind.INFERENCE, live).order_by(ApiKey.id)
    return (await tx.session.scalars(query)).all()
