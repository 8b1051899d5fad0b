"""Inference keys: made here, shown once, bound to what they are for, renewed without a gap."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import groupby

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.keys import rules, store
from controlplane.domains.keys.tables import InferenceKey, KeySecret
from controlplane.domains.keys.types import PREFIX, Bounds, LiveKey, LiveSecret, Use
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import BadInput, Conflict, NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


@dataclass(frozen=True)
class NewSecret:
    """`secret` is shown this once; the site keeps its digest."""

    key: InferenceKey
    secret_id: str
    secret: str


async def create_key(tx: Tx, actor: Actor, *, name: str, bounds: Bounds, lifetime: timedelta) -> NewSecret:
    """Make a key with its first secret; a tenant's key is its own project's."""
    bounds = _checked(actor, bounds)
    key = InferenceKey(id=new_id("key"), name=name, made_by=actor.id, created_at=tx.now, **_columns(bounds))
    await policy.require(tx, actor, "api_key.create", _resource(key))
    store.add(tx, key)
    await tx.session.flush()
    made = _add_secret(tx, key, slot=1, expires_at=_until(tx, lifetime))
    await tx.session.refresh(key, ["secrets"])
    await audit.record(tx, actor, "api_key.created", key.id, name=name, secret=made.secret_id, **_columns(bounds))
    return made


async def rotate_key(
    tx: Tx, actor: Actor, *, key_id: str, lifetime: timedelta | None, old_ends_at: datetime | None
) -> NewSecret:
    """Add a second secret, which lives as long as the first would unless `lifetime` says; the first ends at a time.

    Raises Conflict when two live secrets are there already.
    """
    key = await _find(tx, actor, key_id)
    await policy.require(tx, actor, "api_key.rotate", _resource(key))
    _end_expired(tx, key)
    live = [secret for secret in key.secrets if secret.ended_at is None]
    if key.revoked_at is not None or not live:
        raise Conflict(f"{key_id} is over", remedy="redoubt key create NAME")
    slot = rules.free_slot(secret.slot for secret in live)
    if slot is None:
        detail = f"{key_id} has two live secrets already: {live[0].id} and {live[1].id}"
        raise Conflict(detail, remedy=f"redoubt key revoke-secret {key_id} {live[0].id}")
    made = _add_secret(
        tx, key, slot=slot, expires_at=_until(tx, lifetime) if lifetime is not None else live[0].expires_at
    )
    if old_ends_at is not None:
        live[0].expires_at = min(live[0].expires_at, max(old_ends_at, tx.now))
    await tx.session.flush()
    await tx.session.refresh(key, ["secrets"])
    facts = {"secret": made.secret_id, "old": live[0].id, "old_ends_at": live[0].expires_at.isoformat()}
    await audit.record(tx, actor, "api_key.rotated", key.id, **facts)
    return made


async def revoke_key(tx: Tx, actor: Actor, *, key_id: str) -> InferenceKey:
    """End a key and its secrets; the gateway follows within a second. Revoking it again changes nothing."""
    key = await _find(tx, actor, key_id)
    await policy.require(tx, actor, "api_key.revoke", _resource(key))
    if key.revoked_at is None:
        key.revoked_at = tx.now
        for secret in key.secrets:
            secret.ended_at = secret.ended_at or tx.now
        await audit.record(tx, actor, "api_key.revoked", key.id)
    return key


async def revoke_secret(tx: Tx, actor: Actor, *, key_id: str, secret_id: str) -> InferenceKey:
    """End one secret of a key; the other one goes on."""
    key = await _find(tx, actor, key_id)
    await policy.require(tx, actor, "api_key.revoke", _resource(key))
    secret = next((secret for secret in key.secrets if secret.id == secret_id), None)
    if secret is None:
        raise NotFound(f"{key_id} has no secret {secret_id}", remedy=f"redoubt key show {key_id}")
    if secret.ended_at is None:
        secret.ended_at = tx.now
        await audit.record(tx, actor, "api_key.secret_revoked", key.id, secret=secret_id)
    return key


async def get_key(tx: Tx, actor: Actor, *, key_id: str) -> InferenceKey:
    key = await _find(tx, actor, key_id)
    await policy.require(tx, actor, "api_key.read", _resource(key))
    return key


async def list_keys(tx: Tx, actor: Actor, *, page: Page) -> Sequence[InferenceKey]:
    """Return keys by id; a tenant sees its own project's."""
    await policy.require(tx, actor, "api_key.read", Resource("api_key", "site", project=actor.project))
    return await store.list_keys(tx, page, project=actor.project)


async def list_live_keys(tx: Tx) -> list[LiveKey]:
    """Return what the gateway's snapshot must hold."""
    grouped = groupby(await store.list_live(tx), key=lambda row: row[0])
    return [
        LiveKey(
            key.id, _bounds(key), tuple(LiveSecret(secret.id, secret.sha256, secret.expires_at) for _, secret in rows)
        )
        for key, rows in grouped
    ]


async def record_uses(tx: Tx, actor: Actor, *, uses: Iterable[Use]) -> None:
    """Note when secrets were last used, as a gateway tells it."""
    await policy.require(tx, actor, "spool.ship", "site")
    await store.mark_used(tx, uses)


def _checked(actor: Actor, bounds: Bounds) -> Bounds:
    project = bounds.project or actor.project
    if not rules.may_see(actor.project, of=project):
        raise NotFound(f"no project {project}", remedy="leave the project out: a tenant's key is its own project's")
    try:
        sources = rules.canonical_sources(bounds.sources)
    except ValueError as error:
        raise BadInput(
            f"a source is no network: {error}", remedy="write it as ADDRESS/LENGTH, a single address with /32"
        ) from None
    sets = ("endpoints", "zones", "purposes", "jurisdictions")
    parts = {name: tuple(sorted(set(getattr(bounds, name)))) for name in sets}
    return Bounds(
        project=project, classification=bounds.classification, priority=bounds.priority, sources=sources, **parts
    )


def _columns(bounds: Bounds) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(bounds).items()}


def _bounds(key: InferenceKey) -> Bounds:
    lists = {name: tuple(getattr(key, name)) for name in ("endpoints", "zones", "purposes", "sources", "jurisdictions")}
    return Bounds(project=key.project, classification=key.classification, priority=key.priority, **lists)


def _resource(key: InferenceKey) -> Resource:
    return Resource("api_key", key.id, project=key.project, classification=key.classification)


def _until(tx: Tx, lifetime: timedelta) -> datetime:
    if not timedelta(0) < lifetime <= rules.LONGEST:
        raise BadInput("a secret lives between one and 365 days", remedy="give --days 90, and rotate it in time")
    return tx.now + lifetime


def _add_secret(tx: Tx, key: InferenceKey, *, slot: int, expires_at: datetime) -> NewSecret:
    secret = new_token(PREFIX)
    digest = sha256_hex(secret.encode())
    row = KeySecret(
        id=new_id("secret"), key_id=key.id, slot=slot, sha256=digest, created_at=tx.now, expires_at=expires_at
    )
    store.add(tx, row)
    return NewSecret(key, row.id, secret)


def _end_expired(tx: Tx, key: InferenceKey) -> None:
    """Free the slots of secrets that have run out."""
    for secret in key.secrets:
        if secret.ended_at is None and not rules.is_live(tx.now, secret.expires_at, None):
            secret.ended_at = secret.expires_at


async def _find(tx: Tx, actor: Actor, key_id: str) -> InferenceKey:
    key = await store.find_key(tx, key_id)
    if key is None or not rules.may_see(actor.project, of=key.project):
        raise NotFound(f"no key {key_id}", remedy="redoubt key list")
    return key
