"""Break-glass: two shares, two custodians, one hour, and everybody hears it."""

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER, Actor, Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.store import enrolment as store
from controlplane.domains.identity.store import people
from controlplane.domains.identity.tables import BreakGlassShare, Principal, RoleGrant
from controlplane.domains.identity.types import CUSTODIANS, IssuedTokens, OpenGlass, PrincipalKind
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import Refused, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Tx

NAME = "break-glass"
METHOD = "two-shares"


async def seal_break_glass(tx: Tx, actor: Actor) -> None:
    """Make the principal that two shares open; from here on the site is enrolled. Sealing again changes nothing."""
    await policy.require(tx, actor, "break_glass.seal", "site")
    if await store.is_sealed(tx):
        return
    row = Principal(
        id=new_id("glass"), kind=PrincipalKind.BREAK_GLASS, name=NAME, project="", created_at=tx.now,
        enrolled_at=tx.now, disabled_at=None,
    )  # fmt: skip
    store.add(tx, row)
    await tx.session.flush()
    grant = RoleGrant(
        id=new_id("grant"), principal_id=row.id, role=Role.BREAK_GLASS, granted_by=actor.id, granted_at=tx.now,
        revoked_by=None, revoked_at=None,
    )  # fmt: skip
    people.add(tx, grant)
    await audit.record(tx, actor, "break_glass.sealed", row.id)


async def make_share(tx: Tx, actor: Actor) -> str:
    """Return a new share for the custodian who asks; the one from before ends. Raises Refused for everybody else."""
    await policy.require(tx, actor, "break_glass.share", Resource("break_glass", actor.id))
    if not CUSTODIANS.intersection(actor.roles):
        raise Refused("custodians are platform and security administrators", remedy="redoubt user list")
    await store.mark_share_replaced(tx, actor.id)
    share = new_token("rdb")
    row = BreakGlassShare(
        sha256=sha256_hex(share.encode()), holder_id=actor.id, made_at=tx.now, used_at=None, replaced_at=None
    )
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "break_glass.share_made", actor.id)
    return share


async def open_break_glass(tx: Tx, *, shares: tuple[str, str], reason: str, source: str) -> IssuedTokens:
    """Spend both custodians' shares for one session of an hour that may do what all the staff may."""
    await policy.require(tx, NEWCOMER, "break_glass.open", "site")
    holders = await store.mark_shares_used(tx, [sha256_hex(share.encode()) for share in shares])
    roles = await store.list_able_roles(tx, holders)
    glass = await store.find_glass(tx)
    if glass is None or len(set(holders)) != len(holders) or not rules.are_custodians(list(roles.values())):
        raise Unauthenticated(
            "these are not two live shares of two custodians",
            remedy="each custodian types the newest one; a custodian makes one with: redoubt break-glass share",
        )
    await audit.record(
        tx, Actor(glass.id, Role.BREAK_GLASS), "break_glass.opened", glass.id,
        reason=reason, custodians=sorted(holders), source=source,
    )  # fmt: skip
    return await sessions.start_session(
        tx, NEWCOMER, principal_id=glass.id, methods=(METHOD,), client="break-glass", source=source, strong=True,
        lasts_until=tx.now + rules.BREAK_GLASS_LIFETIME,
    )  # fmt: skip


async def list_open(tx: Tx) -> tuple[OpenGlass, ...]:
    """Return what is open now: everybody may know that, and the health of the site shows it."""
    return tuple(OpenGlass(row.id, row.created_at, row.absolute_expires_at) for row in await store.list_open_glass(tx))


async def missing_custodians(tx: Tx) -> tuple[Role, ...]:
    """Return the offices from which nobody holds a share that counts; none are missing before the first start."""
    if not (await store.is_sealed(tx) and await store.has_shares(tx)):
        return ()
    roles = await store.list_able_roles(tx, await store.list_share_holders(tx))
    held = frozenset(role for of_one in roles.values() for role in of_one)
    return tuple(sorted(CUSTODIANS - held))
