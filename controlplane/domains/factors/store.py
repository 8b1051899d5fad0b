"""Queries. Whatever counts once is used up by one conditional UPDATE, so that of six askers one wins."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from controlplane.domains.factors.rules.throttle import Count
from controlplane.domains.factors.tables import (
    Challenge,
    GuessCount,
    Passkey,
    Password,
    RecoveryCode,
    Totp,
)
from controlplane.kit.tx import Tx, changed_one

FORGOTTEN_AFTER = timedelta(days=2)  # longer than any rule remembers a wrong guess


async def find_password(tx: Tx, principal_id: str) -> Password | None:
    return await tx.session.get(Password, principal_id)


async def mark_password(tx: Tx, principal_id: str, digest: str) -> None:
    row = {"principal_id": principal_id, "digest": digest, "set_at": tx.now}
    new = insert(Password).values(row)
    await tx.session.execute(new.on_conflict_do_update(index_elements=["principal_id"], set_=row))


async def mark_rehashed(tx: Tx, principal_id: str, old: str, digest: str) -> bool:
    """Replace a digest of the same password, unless the password was changed meanwhile."""
    same = (Password.principal_id == principal_id) & (Password.digest == old)
    return await changed_one(tx, update(Password).where(same).values(digest=digest))


async def find_totp(tx: Tx, principal_id: str) -> Totp | None:
    return await tx.session.get(Totp, principal_id, populate_existing=True)


async def mark_totp_pending(tx: Tx, principal_id: str, sealed: bytes) -> None:
    new = insert(Totp).values(principal_id=principal_id, pending=sealed, last_step=0)
    await tx.session.execute(new.on_conflict_do_update(index_elements=["principal_id"], set_={"pending": sealed}))


async def mark_totp_confirmed(tx: Tx, principal_id: str, pending: bytes, step: int) -> bool:
    """Make the pending secret the one that counts; the code that confirmed it is used."""
    shown = (Totp.principal_id == principal_id) & (Totp.pending == pending)
    values = {"sealed": pending, "pending": None, "last_step": step, "since": tx.now}
    return await changed_one(tx, update(Totp).where(shown).values(values))


async def mark_step_used(tx: Tx, principal_id: str, sealed: bytes, step: int) -> bool:
    fresh = (Totp.principal_id == principal_id) & (Totp.sealed == sealed) & (Totp.last_step < step)
    return await changed_one(tx, update(Totp).where(fresh).values(last_step=step))


async def delete_totp(tx: Tx, principal_id: str) -> None:
    await tx.session.execute(delete(Totp).where(Totp.principal_id == principal_id))


async def add_recovery_codes(tx: Tx, principal_id: str, digests: Sequence[str]) -> None:
    await delete_recovery_codes(tx, principal_id)
    tx.session.add_all(RecoveryCode(sha256=digest, principal_id=principal_id, made_at=tx.now) for digest in digests)
    await tx.session.flush()


async def mark_recovery_code_used(tx: Tx, principal_id: str, sha256: str) -> bool:
    live = (RecoveryCode.principal_id == principal_id) & (RecoveryCode.sha256 == sha256)
    return await changed_one(
        tx, update(RecoveryCode).where(live, RecoveryCode.used_at.is_(None)).values(used_at=tx.now)
    )


async def delete_recovery_codes(tx: Tx, principal_id: str) -> None:
    await tx.session.execute(delete(RecoveryCode).where(RecoveryCode.principal_id == principal_id))


async def count_recovery_codes(tx: Tx, principal_id: str) -> int:
    live = (RecoveryCode.principal_id == principal_id) & RecoveryCode.used_at.is_(None)
    return await tx.session.scalar(select(func.count()).select_from(RecoveryCode).where(live)) or 0


async def list_passkeys(tx: Tx, principal_id: str) -> Sequence[Passkey]:
    query = select(Passkey).where(Passkey.principal_id == principal_id).order_by(Passkey.created_at, Passkey.id)
    return (await tx.session.scalars(query)).all()


async def find_passkey(tx: Tx, credential_id: bytes) -> Passkey | None:
    query = select(Passkey).where(Passkey.credential_id == credential_id)
    return (await tx.session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def add_passkey(tx: Tx, row: dict[str, object]) -> bool:
    """Keep a new key; a credential that somebody has already is not kept twice."""
    return await changed_one(tx, insert(Passkey).values(row).on_conflict_do_nothing(index_elements=["credential_id"]))


async def mark_passkey_used(tx: Tx, passkey: Passkey, sign_count: int) -> bool:
    """Move the counter on from what was checked against; two answers of one counter do not both count."""
    same = (Passkey.id == passkey.id) & (Passkey.sign_count == passkey.sign_count)
    moved = update(Passkey).where(same).values(sign_count=sign_count, last_used_at=tx.now)
    return await changed_one(tx, moved.execution_options(synchronize_session=False))


async def delete_passkey(tx: Tx, principal_id: str, passkey_id: str) -> bool:
    own = (Passkey.principal_id == principal_id) & (Passkey.id == passkey_id)
    return await changed_one(tx, delete(Passkey).where(own))


async def delete_everything_of(tx: Tx, principal_id: str) -> None:
    for table in (Password, Totp, RecoveryCode, Passkey):
        await tx.session.execute(delete(table).where(table.principal_id == principal_id))


async def add_challenge(tx: Tx, challenge: Challenge) -> None:
    await tx.session.execute(delete(Challenge).where(Challenge.expires_at < tx.now))
    tx.session.add(challenge)


async def mark_challenge_used(tx: Tx, sha256: str, purpose: str) -> str | None:
    """Return whose challenge it was ("" for nobody's in particular), or None when it does not count."""
    live = (Challenge.sha256 == sha256) & (Challenge.purpose == purpose) & (Challenge.expires_at > tx.now)
    used = update(Challenge).where(live, Challenge.used_at.is_(None)).values(used_at=tx.now)
    return (await tx.session.scalars(used.returning(Challenge.principal_id))).one_or_none()


async def get_counts(tx: Tx, subjects: Sequence[str]) -> dict[str, Count]:
    """Return the counts, made where there was none and locked, in one order for all askers."""
    rows = [{"subject": s, "failures": 0, "last_at": tx.now, "blocked_until": tx.now} for s in sorted(subjects)]
    new = insert(GuessCount).values(rows)
    locked = new.on_conflict_do_update(index_elements=["subject"], set_={"subject": new.excluded.subject})
    columns = (GuessCount.subject, GuessCount.failures, GuessCount.last_at, GuessCount.blocked_until)
    found = (await tx.session.execute(locked.returning(*columns))).all()
    return {subject: Count(failures, last_at, until) for subject, failures, last_at, until in found}


async def mark_count(tx: Tx, subject: str, count: Count) -> None:
    values = {"failures": count.failures, "last_at": count.last_at, "blocked_until": count.blocked_until}
    await tx.session.execute(update(GuessCount).where(GuessCount.subject == subject).values(values))


async def delete_old_counts(tx: Tx) -> None:
    """Forget counts that no rule remembers; a row that somebody is counting in is left alone."""
    old = select(GuessCount.subject).where(GuessCount.last_at < tx.now - FORGOTTEN_AFTER)
    await tx.session.execute(
        delete(GuessCount).where(GuessCount.subject.in_(old.limit(100).with_for_update(skip_locked=True)))
    )
