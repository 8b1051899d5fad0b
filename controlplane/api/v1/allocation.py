"""Leases, and what an ask would get."""

from typing import Annotated

from fastapi import APIRouter, Query

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_lease
from controlplane.contracts import admin
from controlplane.contracts import allocation as contracts
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.types import Ask, Explanation, LeaseFact
from controlplane.domains.shares.types import Pool
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["allocation"])


@router.get("/leases")
async def list_leases(
    tx: Transaction, actor: Person, page: Paged, *, live: Annotated[bool, Query()] = False
) -> admin.Rows[admin.Lease]:
    found = await allocation.list_leases(tx, actor, page=page, live=live)
    return rows(page, found, to_lease, lambda row: row.id)


@router.get("/leases/{lease}")
async def get_lease(lease: str, tx: Transaction, actor: Person) -> contracts.LeaseDetail:
    """Return a lease by its id, or the live one of whoever has this name."""
    row, gpus = await allocation.get_lease(tx, actor, name=lease)
    return contracts.LeaseDetail(**to_lease(row).model_dump(), gpu_uuids=tuple(gpus))


@router.get("/allocation/explanation")
async def explain(
    tx: Transaction,
    actor: Person,
    project: Annotated[admin.ShareName, Query()],
    gpus: Annotated[int, Query(ge=1, le=1024)],
    pool: Annotated[contracts.UsedPool, Query()] = "training",
    gpu_type: Annotated[str, Query(pattern=r"^[a-z0-9_.-]{0,40}$")] = "",
    memory_bytes: Annotated[int, Query(ge=0, le=2**50)] = 0,
    zone: Annotated[str, Query(pattern=r"^[a-z0-9.-]{0,63}$")] = "",
    time_s: Annotated[int, Query(ge=0, le=365 * 86400)] = 0,
) -> contracts.Explanation:
    """Say what an ask would get now and why, GPU by GPU. Nothing is changed."""
    ask = Ask(gpus, gpu_type, memory_bytes, zone, time_s=time_s)
    return _to_explanation(await allocation.explain(tx, actor, share=project, pool=Pool(pool), ask=ask))


def _to_explanation(found: Explanation) -> contracts.Explanation:
    shown = {name: getattr(found, name) for name in contracts.Explanation.model_fields}
    shown["preempts"] = tuple(_words_of(lease) for lease in found.preempts)
    shown["gpus"] = tuple(contracts.GpuVerdict.model_validate(one, from_attributes=True) for one in found.gpus)
    return contracts.Explanation(**shown)


def _words_of(lease: LeaseFact) -> str:
    return f"{lease.holder} ({lease.count} x {lease.gpu_type})"
