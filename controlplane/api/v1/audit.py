"""What happened."""

from fastapi import APIRouter

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_audit_event
from controlplane.contracts import admin
from controlplane.domains.audit import service as audit
from controlplane.domains.policy import service as policy
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["audit"])


@router.get("/audit-events")
async def list_events(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[admin.AuditEvent]:
    """Return events, newest first."""
    await policy.require(tx, actor, "audit.read", "site")
    return rows(page, await audit.list_events(tx, page), to_audit_event, lambda row: row.seq)
