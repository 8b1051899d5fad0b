from collections.abc import Sequence

from sqlalchemy import select

from controlplane.domains.audit.tables import AuditEvent
from controlplane.kit.errors import BadInput
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


def add_event(tx: Tx, event: AuditEvent) -> None:
    tx.session.add(event)


async def list_events(tx: Tx, page: Page) -> Sequence[AuditEvent]:
    """Newest first."""
    query = select(AuditEvent).order_by(AuditEvent.seq.desc()).limit(page.limit)
    if page.after is not None:
        if not page.after.isdecimal():
            raise BadInput("the cursor is not one of this list", remedy="start again without a cursor")
        query = query.where(AuditEvent.seq < int(page.after))
    return (await tx.session.scalars(query)).all()
