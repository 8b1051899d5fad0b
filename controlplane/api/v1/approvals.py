"""Approvals: one person asks, a security administrator lets it happen, once."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import policy as shapes
from controlplane.contracts.admin import Rows
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.tables import Approval
from controlplane.kit.tx import Tx
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["approvals"])


@router.get("/approvals")
async def list_approvals(
    tx: Transaction, actor: Person, page: Paged, state: Annotated[Literal["open", "all"], Query()] = "open"
) -> Rows[shapes.ApprovalView]:
    """Return approvals, newest first; those that can still be decided or spent unless all are asked for."""
    found = await policy.list_approvals(tx, actor, page=page, only_open=state == "open")
    return rows(page, found, lambda row: to_approval(row, tx), lambda row: row.number)


@router.post("/approvals", status_code=201, response_model=shapes.ApprovalView)
async def propose(ask: shapes.ProposeApproval, call: Posted) -> Response:
    made = await policy.propose(
        call.tx,
        call.actor,
        action=ask.action,
        subject=ask.subject,
        reason=ask.reason,
        lifetime=timedelta(hours=ask.hours),
    )
    return call.created(to_approval(made, call.tx))


@router.get("/approvals/{approval_id}")
async def get_approval(approval_id: str, tx: Transaction, actor: Person) -> shapes.ApprovalView:
    return to_approval(await policy.get_approval(tx, actor, approval_id=approval_id), tx)


@router.post("/approvals/{approval_id}/approve")
async def approve(approval_id: str, tx: Transaction, actor: Person) -> shapes.ApprovalView:
    """Let it happen; never for what one proposed oneself."""
    return to_approval(await policy.approve(tx, actor, approval_id=approval_id), tx)


@router.post("/approvals/{approval_id}/refuse")
async def refuse(approval_id: str, tx: Transaction, actor: Person) -> shapes.ApprovalView:
    """Say no, or take one's own proposal back."""
    return to_approval(await policy.refuse(tx, actor, approval_id=approval_id), tx)


def to_approval(row: Approval, tx: Tx) -> shapes.ApprovalView:
    return shapes.ApprovalView(
        id=row.id,
        action=row.action,
        subject=row.subject,
        reason=row.reason,
        state=policy.state_of(row, tx),
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        expires_at=row.expires_at,
        decided_by=row.approved_by or row.refused_by,
        spent_by=row.spent_by,
    )
