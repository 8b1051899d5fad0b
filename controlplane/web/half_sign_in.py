"""A browser's sign-in takes two pages: between them stands one row, good once, for five minutes, from one address."""

from datetime import timedelta

from sqlalchemy import ColumnElement, delete, select, update

from controlplane.domains.factors.types import Claim
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.tx import Tx, changed_one
from controlplane.web.tables import HalfSignIn

LIFETIME = timedelta(minutes=5)
PREFIX = "rdh"


async def begin_half(tx: Tx, claim: Claim) -> str:
    """Note that this claim's password was right; return the secret for the cookie."""
    secret = new_token(PREFIX)
    await tx.session.execute(delete(HalfSignIn).where(HalfSignIn.expires_at < tx.now))
    row = HalfSignIn(
        sha256=sha256_hex(secret.encode()), principal_id=claim.principal_id or "", name=claim.name,
        source=claim.source, expires_at=tx.now + LIFETIME, used_at=None,
    )  # fmt: skip
    tx.session.add(row)
    return secret


async def find_half(tx: Tx, secret: str, source: str) -> Claim | None:
    """Return whose second factor is owed, or None."""
    row = (await tx.session.scalars(select(HalfSignIn).where(_is_live(tx, secret, source)))).one_or_none()
    return None if row is None else Claim(row.principal_id, row.name, row.source)


async def use_half(tx: Tx, secret: str, source: str) -> bool:
    """Use it up; of two that finish the same sign-in one does."""
    return await changed_one(tx, update(HalfSignIn).where(_is_live(tx, secret, source)).values(used_at=tx.now))


def _is_live(tx: Tx, secret: str, source: str) -> ColumnElement[bool]:
    fresh = HalfSignIn.used_at.is_(None) & (HalfSignIn.expires_at > tx.now) & (HalfSignIn.source == source)
    return (HalfSignIn.sha256 == sha256_hex(secret.encode())) & fresh
