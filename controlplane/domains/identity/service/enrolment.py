"""First start and every later enrolment: a code lets one person in once, with a password and a second factor."""

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import NEWCOMER, Actor, Role
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.service import Means
from controlplane.domains.factors.types import Factor
from controlplane.domains.identity import rules
from controlplane.domains.identity.service import break_glass, sessions
from controlplane.domains.identity.service.people import shut_until_enrolled
from controlplane.domains.identity.store import enrolment as store
from controlplane.domains.identity.store import people
from controlplane.domains.identity.tables import EnrolmentCode, Principal, RoleGrant
from controlplane.domains.identity.types import (
    CONSOLE,
    CUSTODIANS,
    FIRST_ROLES,
    SECOND_ROLES,
    Begun,
    Carrier,
    Enrolled,
    NewCode,
    PrincipalKind,
    Purpose,
)
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import BadInput, Conflict, NotFound, NotReady, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Tx

ENROL = "redoubt enrol --url https://… --ca ca.crt --name NAME"
NEW_CODE = (
    "on the control-plane node: runuser -u redoubt -- /opt/redoubt/venv/bin/python -m controlplane.main.enrol_code "
    "--config /etc/redoubt/api.toml"
)


async def is_enrolled(tx: Tx) -> bool:
    """Say whether both administrators are there and the break-glass is sealed; once it is, it stays so."""
    return await store.is_sealed(tx)


async def require_enrolled(tx: Tx) -> None:
    """Raise NotReady, with the next step, until both administrators are there."""
    if await store.is_sealed(tx):
        return
    if await store.has_enrolled(tx, Role.PLATFORM_ADMIN):
        raise NotReady(
            "the second administrator is not enrolled yet",
            remedy=f"with the code that the first one was given: {ENROL}",
        )
    raise NotReady("nobody is enrolled yet", remedy=f"make a code {NEW_CODE}; then {ENROL} --code CODE")


async def create_console_code(tx: Tx, actor: Actor, *, lost: Role | None = None, reason: str = "") -> NewCode:
    """Make the code that the console may hand out now. Raises Conflict when both administrators are there.

    `lost` makes a new administrator of that kind because the old ones cannot sign in any more; it is always recorded.
    """
    await policy.require(tx, actor, "enrolment_code.create", "site")
    await store.lock_first_start(tx)
    if lost is not None:
        return await _lost_code(tx, actor, lost, reason)
    if await store.is_sealed(tx):
        raise Conflict(
            "both administrators are enrolled", remedy="sign in; if they are lost: --lost ROLE --reason WHY",
            code="already_enrolled",
        )  # fmt: skip
    if await store.has_enrolled(tx, Role.PLATFORM_ADMIN):
        return await _add_code(tx, actor, Purpose.SECOND, SECOND_ROLES)
    return await _add_code(tx, actor, Purpose.FIRST, FIRST_ROLES)


async def create_user_code(tx: Tx, actor: Actor, *, name: str) -> NewCode:
    """Make the code with which a user sets password and second factor, for the first time or because they are lost.

    What the user had before ends now: factors, sessions, earlier codes.
    """
    row = await people.lock_by_name(tx, name)
    held = (await people.list_live_roles(tx, [row.id])).get(row.id, []) if row else []
    if Role.SECURITY_ADMIN in held:  # or a platform administrator could become the one who watches him
        await policy.require(tx, actor, "security_user.enrol", Resource("user", name))
    else:
        await policy.require(tx, actor, "user.enrol", Resource("user", name))
    if row is None:
        raise NotFound(f"no user {name}", remedy="redoubt user list")
    if row.disabled_at is not None or not held:
        raise Conflict(f"{name} is disabled or holds no role", remedy=f"redoubt role grant {name} ROLE")
    if row.id == actor.id:
        raise Conflict("nobody resets himself", remedy="ask another administrator")
    await shut_until_enrolled(tx, actor, row)
    return await _add_code(tx, actor, Purpose.USER, tuple(held), row)


async def begin_enrolment(tx: Tx, means: Means, *, code: str, name: str, password: str) -> Begun:
    """Spend a code for a ticket and the secret of an authenticator. A password that is refused spends nothing."""
    await policy.require(tx, NEWCOMER, "principal.enrol", "site")
    ticket = new_token("rde")
    row = await store.mark_code_used(tx, sha256_hex(code.encode()), sha256_hex(ticket.encode()))
    if row is None:
        raise Unauthenticated(
            "the enrolment code is wrong, used or expired",
            remedy=f"it counts once and for an hour; ask who gave it for another, or {NEW_CODE}",
        )
    await _fill(tx, row, name)
    person = _person(row)
    await factors.set_password(
        tx, person, means, principal_id=person.id, password=password, staff=rules.is_staff(person.roles),
        context=frozenset({row.name}),
    )  # fmt: skip
    totp = await factors.begin_totp(tx, person, means, principal_id=person.id, name=row.name)
    row.expires_at = tx.now + rules.TICKET_LIFETIME
    await audit.record(tx, NEWCOMER, "principal.enrolment_begun", person.id, name=row.name, purpose=row.purpose)
    return Begun(ticket, row.name, tuple(Role(role) for role in row.roles), totp.secret, totp.uri, row.expires_at)


async def finish_enrolment(
    tx: Tx, means: Means, *, ticket: str, otp: str, client: str, source: str, carrier: Carrier = Carrier.PAIR
) -> Enrolled:
    """Spend the ticket with a first code of the authenticator: the account counts, and its holder is signed in."""
    await policy.require(tx, NEWCOMER, "principal.enrol", "site")
    await store.lock_first_start(tx)
    row = await store.mark_ticket_used(tx, sha256_hex(ticket.encode()))
    if row is None:
        raise Unauthenticated(
            "the ticket is wrong, used or expired",
            remedy=f"begin again with a new code; ask who gave it, or {NEW_CODE}",
        )
    await _refuse_out_of_turn(tx, Purpose(row.purpose))
    person = _person(row)
    await factors.confirm_totp(tx, person, means, principal_id=person.id, code=otp)
    strong = Actor(person.id, person.role, roles=person.roles, strong_at=tx.now, source=source)
    recovery_codes = await factors.make_recovery_codes(tx, strong, principal_id=person.id)
    await _let_in(tx, row)
    if row.purpose == Purpose.SECOND:
        await break_glass.seal_break_glass(tx, CONSOLE)
    share = await break_glass.make_share(tx, strong) if CUSTODIANS.intersection(person.roles) else ""
    second = await _add_code(tx, CONSOLE, Purpose.SECOND, SECOND_ROLES) if row.purpose == Purpose.FIRST else None
    tokens = await sessions.start_session(
        tx, NEWCOMER, principal_id=person.id, methods=(Factor.PASSWORD, Factor.TOTP), client=client, source=source,
        strong=True, carrier=carrier,
    )  # fmt: skip
    await audit.record(tx, strong, "principal.enrolled", person.id, name=row.name, purpose=row.purpose)
    return Enrolled(person.id, row.name, tuple(Role(role) for role in row.roles), tokens, recovery_codes, share, second)


async def _lost_code(tx: Tx, actor: Actor, lost: Role, reason: str) -> NewCode:
    if not await store.is_sealed(tx):
        raise Conflict("the first start is not over", remedy="make a code without --lost", code="not_enrolled")
    if not reason.strip():
        raise BadInput("a reason is needed", remedy='--reason "why nobody signs in any more"')
    made = await _add_code(tx, actor, Purpose.LOST, FIRST_ROLES if lost == Role.PLATFORM_ADMIN else SECOND_ROLES)
    await audit.record(tx, actor, "administrator.declared_lost", lost, reason=reason)
    return made


async def _add_code(
    tx: Tx, actor: Actor, purpose: Purpose, roles: tuple[Role, ...], user: Principal | None = None
) -> NewCode:
    await store.mark_codes_expired(tx, purpose, user.id if user else "")
    code, expires_at = new_token("enrol"), tx.now + rules.ENROLMENT_LIFETIME
    row = EnrolmentCode(
        sha256=sha256_hex(code.encode()), purpose=purpose, roles=list(roles), principal_id=user.id if user else "",
        name=user.name if user else "", created_by=actor.id, created_at=tx.now, expires_at=expires_at, used_at=None,
        ticket_sha256=None, finished_at=None,
    )  # fmt: skip
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "enrolment_code.created", row.principal_id or "site", purpose=purpose)
    return NewCode(code, purpose, roles, expires_at)


async def _fill(tx: Tx, row: EnrolmentCode, name: str) -> None:
    """A console's code learns who uses it; a user's code knows that already."""
    if row.purpose == Purpose.USER:
        return
    if not name:
        raise BadInput("a name is needed", remedy="--name NAME")
    known = await people.find_principal(tx, name)
    if known is not None:
        raise Conflict(f"there is a user {name} already", remedy="take another name; none is used twice")
    row.principal_id, row.name = new_id("user"), name


def _person(row: EnrolmentCode) -> Actor:
    """Who enrols acts for himself with the roles that he will have."""
    roles = frozenset(Role(role) for role in row.roles)
    return Actor(row.principal_id, rules.first_role(roles), roles=roles)


async def _refuse_out_of_turn(tx: Tx, purpose: Purpose) -> None:
    """Two first codes may have been begun; one of them ends."""
    first_is_in = await store.has_enrolled(tx, Role.PLATFORM_ADMIN)
    is_over = await store.is_sealed(tx)  # and stays so while an administrator is being reset
    late = {Purpose.FIRST: first_is_in or is_over, Purpose.SECOND: is_over}
    if late.get(purpose, False):
        raise Conflict("somebody else was first", remedy="sign in, or ask the administrator who enrolled")


async def _let_in(tx: Tx, row: EnrolmentCode) -> None:
    if row.purpose == Purpose.USER:
        user = await people.lock_by_name(tx, row.name)
        if user is None or user.disabled_at is not None:
            raise Unauthenticated("this account is disabled", remedy="ask a platform administrator")
        user.enrolled_at = user.enrolled_at or tx.now
        return
    principal = Principal(
        id=row.principal_id, kind=PrincipalKind.USER, name=row.name, project="", created_at=tx.now,
        enrolled_at=tx.now, disabled_at=None,
    )  # fmt: skip
    people.add(tx, principal)
    await tx.session.flush()
    for role in row.roles:
        grant = RoleGrant(
            id=new_id("grant"), principal_id=principal.id, role=role, granted_by=row.created_by, granted_at=tx.now,
            revoked_by=None, revoked_at=None,
        )  # fmt: skip
        people.add(tx, grant)
        await audit.record(tx, CONSOLE, "role.granted", principal.id, role=role, name=row.name)
    await tx.session.flush()
