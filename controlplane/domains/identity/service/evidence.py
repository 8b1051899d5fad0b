"""Everybody over time, for the access report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.domains.audit.types import Actor
from controlplane.domains.identity.store import evidence as store
from controlplane.domains.identity.tables import Principal, RoleGrant, Session
from controlplane.domains.policy import service as policy
from controlplane.kit.tx import Tx

MOST_PRINCIPALS = 500
MOST_SESSIONS = 5000


@dataclass(frozen=True)
class Everybody:
    """`sessions` lived in the period; `last` is each principal's newest, of whatever time."""

    principals: Sequence[Principal]
    grants: Sequence[RoleGrant]
    sessions: Sequence[Session]
    last: dict[str, Session]


async def read_everybody(
    tx: Tx, actor: Actor, *, named: str | None, began_at: datetime, ended_at: datetime
) -> Everybody:
    """Return one principal (by name or id) or all, with every role they ever held and their sessions of a period."""
    await policy.require(tx, actor, "user.read", "site")
    principals = await store.list_principals(tx, named=named, limit=MOST_PRINCIPALS)
    ids = [row.id for row in principals]
    sessions = await store.list_sessions(tx, ids, began_at=began_at, ended_at=ended_at, limit=MOST_SESSIONS)
    return Everybody(principals, await store.list_grants(tx, ids), sessions, await store.last_seen(tx, ids))
