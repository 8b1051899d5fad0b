"""Enrolment, keys, and who I am."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.api.v1.shapes import to_key
from controlplane.contracts import admin
from controlplane.domains.audit.types import NEWCOMER
from controlplane.domains.identity.service import keys
from controlplane.domains.identity.types import KeyKind
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["identity"])


@router.post("/enrolments", status_code=201)
async def enrol(body: admin.Enrol, tx: Transaction) -> admin.NewKey:
    """Spend the single-use enrolment code; the answer holds the first administrator's key."""
    made = await keys.enrol(tx, NEWCOMER, code=body.code, name=body.name)
    return admin.NewKey(key=to_key(made.key), secret=made.secret)


@router.get("/whoami")
async def whoami(request: Request, actor: Person) -> admin.Whoami:
    return admin.Whoami(id=actor.id, role=actor.role, site=request.app.state.site)


@router.post("/api-keys", status_code=201, response_model=admin.NewKey)
async def create_key(body: admin.CreateKey, call: Posted) -> Response:
    """Make a key; its secret is in this answer and nowhere else."""
    made = await keys.create_key(
        call.tx,
        call.actor,
        kind=KeyKind(body.kind),
        name=body.name,
        endpoints=body.endpoints,
        expires_at=body.expires_at,
    )
    return call.created(admin.NewKey(key=to_key(made.key), secret=made.secret), secret=True)


@router.get("/api-keys")
async def list_keys(tx: Transaction, actor: Person, page: Paged) -> admin.Rows[admin.Key]:
    return rows(page, await keys.list_keys(tx, actor, page=page), to_key, lambda row: row.id)


@router.delete("/api-keys/{key_id}")
async def revoke_key(key_id: str, tx: Transaction, actor: Person) -> admin.Key:
    return to_key(await keys.revoke_key(tx, actor, key_id=key_id))
