"""Inference keys."""

from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import keys as contracts
from controlplane.contracts.admin import Rows
from controlplane.contracts.levels import LEVELS
from controlplane.domains.keys import service as keys
from controlplane.domains.keys.tables import InferenceKey
from controlplane.domains.keys.types import Bounds
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["keys"])


@router.post("/keys", status_code=201, response_model=contracts.NewSecret)
async def create_key(body: contracts.CreateKey, call: Posted) -> Response:
    """Make a key; its secret is in this answer and nowhere else."""
    bounds = Bounds(
        project=body.project,
        endpoints=body.endpoints,
        zones=body.zones,
        purposes=body.purposes,
        classification=LEVELS.index(body.classification),
        sources=body.sources,
        jurisdictions=body.jurisdictions,
        priority=body.priority,
    )
    lifetime = timedelta(days=body.days)
    made = await keys.create_key(call.tx, call.actor, name=body.name, bounds=bounds, lifetime=lifetime)
    return call.created(_to_new(made), secret=True)


@router.get("/keys")
async def list_keys(tx: Transaction, actor: Person, page: Paged) -> Rows[contracts.Key]:
    return rows(page, await keys.list_keys(tx, actor, page=page), to_key, lambda row: row.id)


@router.get("/keys/{key_id}")
async def get_key(key_id: str, tx: Transaction, actor: Person) -> contracts.Key:
    return to_key(await keys.get_key(tx, actor, key_id=key_id))


@router.post("/keys/{key_id}/secrets", status_code=201, response_model=contracts.NewSecret)
async def rotate_key(key_id: str, body: contracts.RotateKey, call: Posted) -> Response:
    """Add a second secret; it is in this answer and nowhere else."""
    lifetime = timedelta(days=body.days) if body.days is not None else None
    made = await keys.rotate_key(call.tx, call.actor, key_id=key_id, lifetime=lifetime, old_ends_at=body.old_ends_at)
    return call.created(_to_new(made), secret=True)


@router.delete("/keys/{key_id}/secrets/{secret_id}")
async def revoke_secret(key_id: str, secret_id: str, tx: Transaction, actor: Person) -> contracts.Key:
    return to_key(await keys.revoke_secret(tx, actor, key_id=key_id, secret_id=secret_id))


@router.delete("/keys/{key_id}")
async def revoke_key(key_id: str, tx: Transaction, actor: Person) -> contracts.Key:
    return to_key(await keys.revoke_key(tx, actor, key_id=key_id))


def to_key(row: InferenceKey) -> contracts.Key:
    used = [secret.last_used_at for secret in row.secrets if secret.last_used_at is not None]
    return contracts.Key(
        id=row.id,
        name=row.name,
        project=row.project,
        endpoints=tuple(row.endpoints),
        zones=tuple(row.zones),
        purposes=tuple(row.purposes),
        classification=LEVELS[row.classification],
        sources=tuple(row.sources),
        jurisdictions=tuple(row.jurisdictions),
        priority=row.priority,
        created_at=row.created_at,
        expires_at=max(secret.ended_at or secret.expires_at for secret in row.secrets),
        revoked_at=row.revoked_at,
        last_used_at=max(used, default=None),
        secrets=tuple(contracts.KeySecret.model_validate(secret, from_attributes=True) for secret in row.secrets),
    )


def _to_new(made: keys.NewSecret) -> contracts.NewSecret:
    return contracts.NewSecret(key=to_key(made.key), secret_id=made.secret_id, secret=made.secret)
