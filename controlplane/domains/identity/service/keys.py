"""Keys of applications, and until people sign in with factors the first administrator's."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.store import keys as store
from controlplane.domains.identity.tables import ApiKey, EnrolmentCode, Principal, RoleGrant
from controlplane.domains.identity.types import PREFIX, KeyKind, PrincipalKind
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import BadInput, Conflict, NotFound, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


@dataclass(frozen=True)
class NewKey:
    """`secret` is shown this once; the site keeps its digest."""

    key: ApiKey
    secret: str


async def create_enrolment_code(tx: Tx, actor: Actor) -> str:
    """Return a code that makes the first administrator; earlier unused codes end. Raises Conflict if there is one."""
    await policy.require(tx, actor, "enrolment_code.create", "site")
    if await store.count_principals(tx):
        raise Conflict(
            "an administrator exists already", remedy="sign in with an administrator's key", code="already_enrolled"
        )
    await store.mark_codes_expired(tx)
    code = new_token("enrol")
    expires_at = tx.now + rules.ENROLMENT_LIFETIME
    store.add(tx, EnrolmentCode(sha256=sha256_hex(code.encode()), created_at=tx.now, expires_at=expires_at))
    await audit.record(tx, actor, "enrolment_code.created", "site")
    return code


async def enrol(tx: Tx, actor: Actor, *, code: str, name: str) -> NewKey:
    """Spend an enrolment code for the first administrator's key. Raises Unauthenticated for all but a live one."""
    await policy.require(tx, actor, "principal.enrol", name)
    if not await store.mark_code_used(tx, sha256_hex(code.encode())):
        raise Unauthenticated(
            "the enrolment code is wrong, used or expired",
            remedy="make a new one on the control-plane node; it counts for one hour and once",
        )
    principal = Principal(id=new_id("user"), kind=PrincipalKind.USER, name=name, created_at=tx.now, enrolled_at=tx.now)
    store.add(tx, principal)
    await tx.session.flush()
    for role in (Role.PLATFORM_ADMIN, Role.OPERATOR):
        store.add(
            tx,
            RoleGrant(
                id=new_id("grant"), principal_id=principal.id, role=role, granted_by="console", granted_at=tx.now
            ),
        )
    await audit.record(tx, Actor(principal.id, Role.PLATFORM_ADMIN), "principal.enrolled", principal.id, name=name)
    return _add_key(tx, principal.id, KeyKind.ADMIN, name=f"{name}, first key", endpoints=(), expires_at=None)


async def authenticate(tx: Tx, secret: str) -> Actor:
    """Return whose admin key this is; raises Unauthenticated, the same for every cause."""
    found = await store.find_key_by_digest(tx, sha256_hex(secret.encode()))
    if (
        found is None
        or found[0].kind != KeyKind.ADMIN
        or not rules.is_live(tx.now, found[0].expires_at, found[0].revoked_at)
    ):
        raise Unauthenticated(
            "the key is unknown, revoked or expired", remedy="send `Authorization: Bearer rda_…` with a live admin key"
        )
    return Actor(found[1].id, Role.PLATFORM_ADMIN, roles=frozenset({Role.PLATFORM_ADMIN, Role.OPERATOR}))


async def create_key(
    tx: Tx, actor: Actor, *, kind: KeyKind, name: str, endpoints: tuple[str, ...], expires_at: datetime | None
) -> NewKey:
    """Make a key for the actor's own principal; its secret is in the answer and nowhere else."""
    await policy.require(tx, actor, "api_key.create", kind)
    if expires_at is not None and expires_at <= tx.now:
        raise BadInput("expires_at is in the past", remedy="give a later time, or none")
    made = _add_key(tx, actor.id, kind, name=name, endpoints=endpoints, expires_at=expires_at)
    await audit.record(tx, actor, "api_key.created", made.key.id, kind=kind, name=name)
    return made


async def revoke_key(tx: Tx, actor: Actor, *, key_id: str) -> ApiKey:
    """End a key; the gateway follows within a second. Revoking it again changes nothing."""
    key = await store.find_key(tx, key_id)
    await policy.require(tx, actor, "api_key.revoke", key_id)
    if key is None:
        raise NotFound(f"no key {key_id}", remedy="redoubt key list")
    if key.revoked_at is None:
        if key.kind == KeyKind.ADMIN and await store.count_live_admin_keys(tx) == 1:
            raise Conflict(
                "this is the last admin key", remedy="make another first: redoubt key create NAME --kind admin"
            )
        key.revoked_at = tx.now
        await audit.record(tx, actor, "api_key.revoked", key.id)
    return key


async def list_keys(tx: Tx, actor: Actor, *, page: Page) -> Sequence[ApiKey]:
    await policy.require(tx, actor, "api_key.read", "site")
    return await store.list_keys(tx, page)


async def list_live_inference_keys(tx: Tx) -> Sequence[ApiKey]:
    """Return what the gateway's snapshot must hold."""
    return await store.list_live_inference_keys(tx)


def _add_key(
    tx: Tx, principal_id: str, kind: KeyKind, *, name: str, endpoints: tuple[str, ...], expires_at: datetime | None
) -> NewKey:
    secret = new_token(PREFIX[kind])
    key = ApiKey(
        id=new_id("key"),
        principal_id=principal_id,
        kind=kind,
        name=name,
        sha256=sha256_hex(secret.encode()),
        endpoints=list(endpoints),
        created_at=tx.now,
        expires_at=expires_at,
    )
    store.add(tx, key)
    return NewKey(key, secret)
