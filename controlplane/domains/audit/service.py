"""Records what happened, in the same transaction as the change."""

from collections.abc import Sequence

from controlplane.domains.audit import store
from controlplane.domains.audit.tables import AuditEvent
from controlplane.domains.audit.types import Actor
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


async def record(tx: Tx, actor: Actor, event: str, resource: str, **details: object) -> None:
    """Write one event; it becomes true with the change it tells of, or not at all."""
    row = AuditEvent(at=tx.now, actor=actor.id, role=actor.role, event=event, resource=resource, details=details)
    store.add_event(tx, row)


async def list_events(tx: Tx, page: Page) -> Sequence[AuditEvent]:
    """Return events, newest first. The caller has authorised: policy stands above this domain."""
    return await store.list_events(tx, page)
