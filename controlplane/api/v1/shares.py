"""Organisations, projects and teams, their quotas, pools and reservations."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from controlplane.contracts import allocation as contracts
from controlplane.contracts.admin import Rows
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.tables import ReservationRow
from controlplane.domains.shares.types import Pool, PoolTerms, Quota, Share, ShareKind, Window
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["shares"])


@router.post("/shares", status_code=201, response_model=contracts.Share)
async def create_share(body: contracts.CreateShare, call: Posted, request: Request) -> Response:
    """Make an organisation, a project or a team."""
    made = await shares.create_share(
        call.tx, call.actor, kind=ShareKind(body.kind), name=body.name, parent=body.parent, weight=body.weight,
        slots=int(request.app.state.project_slots),
    )  # fmt: skip
    return call.created(to_share(made))


@router.get("/shares")
async def list_shares(
    tx: Transaction, actor: Person, kind: Annotated[contracts.Kind | None, Query()] = None
) -> Rows[contracts.Share]:
    found = await shares.list_shares(tx, actor)
    return Rows(items=tuple(to_share(share) for share in found if kind in (None, share.kind)))


@router.get("/shares/{share}")
async def show_share(share: str, tx: Transaction, actor: Person) -> contracts.Share:
    return to_share(await shares.show_share(tx, actor, name=share))


@router.patch("/shares/{share}")
async def set_share(share: str, body: contracts.SetShare, tx: Transaction, actor: Person) -> contracts.Share:
    """Say whether gateways may keep its files and the results of its batches."""
    return to_share(await shares.keep_content(tx, actor, name=share, keeps=body.keeps_content))


@router.delete("/shares/{share}")
async def archive_share(share: str, tx: Transaction, actor: Person) -> contracts.Share:
    """Let nothing new run for it; what runs finishes."""
    return to_share(await shares.archive_share(tx, actor, name=share))


@router.put("/shares/{share}/quotas/{gpu_type}")
async def set_quota(
    share: str, gpu_type: contracts.GpuType, body: contracts.SetQuota, tx: Transaction, actor: Person
) -> contracts.Quota:
    """Say how many GPUs of a type a share may use, and how many of them nobody takes away."""
    return to_quota(await shares.set_quota(tx, actor, quota=Quota(share, gpu_type, body.guaranteed, body.most)))


@router.get("/quotas")
async def list_quotas(tx: Transaction, actor: Person) -> Rows[contracts.Quota]:
    return Rows(items=tuple(to_quota(quota) for quota in await shares.list_quotas(tx, actor)))


@router.get("/pools")
async def list_pools(tx: Transaction, actor: Person) -> Rows[contracts.Pool]:
    return Rows(items=tuple(to_pool(terms) for terms in await shares.list_pools(tx, actor)))


@router.patch("/pools/{pool}")
async def set_pool(pool: contracts.PoolName, body: contracts.SetPool, tx: Transaction, actor: Person) -> contracts.Pool:
    """Change the terms of a pool; what is null stays as it is."""
    known = {terms.pool: terms for terms in await shares.list_pools(tx, actor)}[Pool(pool)]
    limits = {**dict(known.max_gpus), **(body.max_gpus or {})}
    changes = body.model_dump(exclude={"max_gpus", "unbounded"}, exclude_none=True)
    if "project_most" in body.unbounded:
        changes["project_most"] = None
    max_gpus = tuple(sorted((name, most) for name, most in limits.items() if name not in body.unbounded))
    return to_pool(await shares.set_pool(tx, actor, terms=replace(known, max_gpus=max_gpus, **changes)))


@router.post("/reservations", status_code=201, response_model=contracts.Reservation)
async def create_reservation(body: contracts.CreateReservation, call: Posted) -> Response:
    """Keep nodes for maintenance, for some accounts, or as spares."""
    starts_at = body.starts_at or call.tx.now
    window = Window(
        body.name, body.kind, starts_at, body.ends_at, body.nodes, body.node_count, tuple(sorted(set(body.accounts)))
    )
    made = await shares.create_reservation(call.tx, call.actor, window=window, reason=body.reason)
    return call.created(to_reservation(made))


@router.get("/reservations")
async def list_reservations(tx: Transaction, actor: Person) -> Rows[contracts.Reservation]:
    return Rows(items=tuple(to_reservation(row) for row in await shares.list_reservations(tx, actor)))


@router.delete("/reservations/{reservation}", status_code=204)
async def delete_reservation(reservation: str, tx: Transaction, actor: Person) -> None:
    await shares.delete_reservation(tx, actor, name=reservation)


def to_share(share: Share) -> contracts.Share:
    return contracts.Share.model_validate(share, from_attributes=True)


def to_quota(quota: Quota) -> contracts.Quota:
    return contracts.Quota.model_validate(quota, from_attributes=True)


def to_pool(terms: PoolTerms) -> contracts.Pool:
    return contracts.Pool(
        name=terms.pool,
        max_gpus=dict(terms.max_gpus),
        max_time_s=terms.max_time_s,
        grace_s=terms.grace_s,
        priority=terms.priority,
        over_priority=terms.over_priority,
        project_most=terms.project_most,
    )


def to_reservation(row: ReservationRow) -> contracts.Reservation:
    return contracts.Reservation.model_validate(row, from_attributes=True)
