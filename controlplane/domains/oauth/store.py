"""Every query of the authorization server. What may happen once is one conditional UPDATE or INSERT here."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.oauth.tables import (
    AuthorizationCode,
    Consent,
    DeviceCode,
    OauthClient,
    SigningKey,
    SpentAssertion,
    WrongUserCodes,
)
from controlplane.domains.oauth.types import KeyState
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx, changed_one

Row = AuthorizationCode | DeviceCode | OauthClient | SigningKey


def add(tx: Tx, row: Row) -> None:
    tx.session.add(row)


async def find_client(tx: Tx, client_id: str) -> OauthClient | None:
    return await tx.session.get(OauthClient, client_id)


async def find_client_named(tx: Tx, name: str) -> OauthClient | None:
    return (await tx.session.scalars(select(OauthClient).where(OauthClient.name == name))).one_or_none()


async def find_client_by_certificate(tx: Tx, uri: str) -> OauthClient | None:
    return (await tx.session.scalars(select(OauthClient).where(OauthClient.certificate_uri == uri))).one_or_none()


async def list_clients(tx: Tx, page: Page) -> Sequence[OauthClient]:
    query = select(OauthClient).order_by(OauthClient.id).limit(page.limit)
    if page.after is not None:
        query = query.where(OauthClient.id > page.after)
    return (await tx.session.scalars(query)).all()


async def mark_code_used(tx: Tx, sha256: str) -> bool:
    """Use a live code up; of six askers the database lets one through, and the others wait for its commit."""
    live = (AuthorizationCode.sha256 == sha256) & AuthorizationCode.used_at.is_(None)
    live &= AuthorizationCode.expires_at > tx.now
    return await changed_one(tx, update(AuthorizationCode).where(live).values(used_at=tx.now))


async def find_code(tx: Tx, sha256: str) -> AuthorizationCode | None:
    query = select(AuthorizationCode).where(AuthorizationCode.sha256 == sha256)
    return (await tx.session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def find_device_code(tx: Tx, sha256: str) -> DeviceCode | None:
    query = select(DeviceCode).where(DeviceCode.sha256 == sha256).with_for_update()
    return (await tx.session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def count_open_devices(tx: Tx, source: str) -> int:
    waits = (DeviceCode.source == source) & DeviceCode.decided_at.is_(None) & (DeviceCode.expires_at > tx.now)
    return await tx.session.scalar(select(func.count()).select_from(DeviceCode).where(waits)) or 0


async def find_device_by_user_code(tx: Tx, user_code_sha256: str) -> DeviceCode | None:
    """Return the request that still waits under this code."""
    waits = (DeviceCode.user_code_sha256 == user_code_sha256) & DeviceCode.decided_at.is_(None)
    query = select(DeviceCode).where(waits & (DeviceCode.expires_at > tx.now))
    return (await tx.session.scalars(query)).one_or_none()


async def mark_device_decided(tx: Tx, device_id: str, *, approved: bool, principal_id: str, methods: list[str]) -> bool:
    waits = (DeviceCode.id == device_id) & DeviceCode.decided_at.is_(None) & (DeviceCode.expires_at > tx.now)
    values = {"decided_at": tx.now, "approved": approved, "principal_id": principal_id, "methods": methods}
    return await changed_one(tx, update(DeviceCode).where(waits).values(values))


async def mark_device_code_used(tx: Tx, sha256: str) -> bool:
    """Use an approved device code up, once."""
    ready = (DeviceCode.sha256 == sha256) & DeviceCode.approved.is_(True) & DeviceCode.used_at.is_(None)
    return await changed_one(
        tx, update(DeviceCode).where(ready & (DeviceCode.expires_at > tx.now)).values(used_at=tx.now)
    )


async def count_wrong_codes(tx: Tx, session_id: str) -> int:
    return await tx.session.scalar(select(WrongUserCodes.count).where(WrongUserCodes.session_id == session_id)) or 0


async def add_wrong_code(tx: Tx, session_id: str) -> None:
    fresh = insert(WrongUserCodes).values(session_id=session_id, count=1, last_at=tx.now)
    again = {"count": WrongUserCodes.count + 1, "last_at": tx.now}
    await tx.session.execute(fresh.on_conflict_do_update(index_elements=["session_id"], set_=again))


async def add_spent_assertion(tx: Tx, client_id: str, jti_sha256: str, expires_at: datetime) -> bool:
    """Keep the `jti`; False when it is there already."""
    row = {"client_id": client_id, "jti_sha256": jti_sha256, "expires_at": expires_at}
    return await changed_one(tx, insert(SpentAssertion).values(row).on_conflict_do_nothing())


async def delete_what_is_over(tx: Tx, before: datetime) -> None:
    """Drop codes and assertions that can no longer buy anything; what they bought is in the audit log."""
    for table in (AuthorizationCode, DeviceCode, SpentAssertion):
        await tx.session.execute(delete(table).where(table.expires_at < before))
    await tx.session.execute(delete(WrongUserCodes).where(WrongUserCodes.last_at < before))


async def find_consent(tx: Tx, principal_id: str, client_id: str) -> Consent | None:
    return await tx.session.get(Consent, (principal_id, client_id))


async def add_consent(tx: Tx, principal_id: str, client_id: str, scopes: list[str]) -> None:
    row = {"principal_id": principal_id, "client_id": client_id, "scopes": scopes, "given_at": tx.now}
    new = {"scopes": scopes, "given_at": tx.now}
    statement = insert(Consent).values(row)
    await tx.session.execute(statement.on_conflict_do_update(index_elements=["principal_id", "client_id"], set_=new))


async def list_signing_keys(tx: Tx, *, lock: bool = False) -> Sequence[SigningKey]:
    """Return the keys that are published, oldest first."""
    query = select(SigningKey).where(SigningKey.state != KeyState.RETIRED).order_by(SigningKey.created_at)
    return (await tx.session.scalars(query.with_for_update() if lock else query)).all()
