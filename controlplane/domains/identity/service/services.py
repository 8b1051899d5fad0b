"""Services: principals that nobody types a password for; what they prove themselves with is the oauth domain's."""

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.store import people as store
from controlplane.domains.identity.tables import Principal, RoleGrant
from controlplane.domains.identity.types import PrincipalKind
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.errors import BadInput, Conflict, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Tx


async def create_service(tx: Tx, actor: Actor, *, name: str, project: str, roles: tuple[Role, ...]) -> Principal:
    """Make a service's principal with its roles. Raises Refused for duties that exclude each other."""
    await policy.require(tx, actor, "service.create", Resource("service", name, project=project))
    if await store.find_principal(tx, name, PrincipalKind.SERVICE) is not None:
        raise Conflict(f"there is a service {name} already", remedy="names are never used again; take another")
    if not roles or (rules.is_staff(roles) and project):
        raise BadInput("a service needs a role, and one of the site goes with no project", remedy="--role ROLE")
    row = Principal(
        id=new_id("svc"), kind=PrincipalKind.SERVICE, name=name, project=project, created_at=tx.now,
        enrolled_at=tx.now, disabled_at=None,
    )  # fmt: skip
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "service.created", row.id, name=name, project=project)
    for role in roles:
        await _grant(tx, actor, row, role, roles)
    return row


async def _grant(tx: Tx, actor: Actor, row: Principal, role: Role, others: tuple[Role, ...]) -> None:
    if role == Role.SECURITY_ADMIN:
        await policy.require(tx, actor, "security_role.grant", Resource("role", role))
    else:
        await policy.require(tx, actor, "role.grant", Resource("role", role))
    if (other := rules.duty_conflict([held for held in others if held != role], role)) is not None:
        raise Refused(f"{role} and {other} do not go together", remedy="make two services", code="separation_of_duties")
    store.add(
        tx,
        RoleGrant(
            id=new_id("grant"), principal_id=row.id, role=role, granted_by=actor.id, granted_at=tx.now,
            revoked_by=None, revoked_at=None,
        ),
    )  # fmt: skip
    await tx.session.flush()
    await audit.record(tx, actor, "role.granted", row.id, role=role, name=row.name)
