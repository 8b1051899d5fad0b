"""What is wrong with the site."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import admin
from controlplane.domains.health import service as health
from controlplane.domains.health.tables import Incident
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["incidents"])


@router.get("/incidents")
async def list_incidents(
    tx: Transaction, actor: Person, page: Paged, state: Annotated[Literal["open", "all"], Query()] = "open"
) -> admin.Rows[admin.Incident]:
    """Return incidents, newest first; the open ones unless all are asked for."""
    found = await health.list_incidents(tx, actor, page=page, only_open=state == "open")
    return rows(page, found, to_incident, lambda row: row.number)


@router.get("/incidents/{incident_id}")
async def get_incident(incident_id: str, tx: Transaction, actor: Person) -> admin.Incident:
    return to_incident(await health.get_incident(tx, actor, incident_id=incident_id))


def to_incident(row: Incident) -> admin.Incident:
    return admin.Incident(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        opened_at=row.opened_at,
        last_seen_at=row.last_seen_at,
        closed_at=row.closed_at,
        times=row.times,
        detail=row.detail,
        evidence_sha256=row.evidence_sha256,
    )
