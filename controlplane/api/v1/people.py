"""Users and their roles."""

from fastapi import APIRouter
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import identity as contracts
from controlplane.contracts.admin import Rows
from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import enrolment, people
from controlplane.domains.identity.service.people import PersonView
from controlplane.domains.identity.tables import RoleGrant
from controlplane.domains.identity.types import NewCode
from controlplane.web.actor import Person
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["people"])


@router.post("/users", status_code=201, response_model=contracts.NewUser)
async def create_user(body: contracts.CreateUser, call: Posted) -> Response:
    """Make an account; the answer holds the code with which one person enrols."""
    roles = tuple(Role(role) for role in body.roles)
    view = await people.create_user(call.tx, call.actor, name=body.name, project=body.project, roles=roles)
    code = await enrolment.create_user_code(call.tx, call.actor, name=body.name)
    return call.created(contracts.NewUser(user=to_user(view), enrolment=to_code(code)), secret=True)


@router.get("/users")
async def list_users(tx: Transaction, actor: Person, page: Paged) -> Rows[contracts.User]:
    return rows(page, await people.list_users(tx, actor, page=page), to_user, lambda view: view.principal.id)


@router.get("/users/{name}")
async def get_user(name: str, tx: Transaction, actor: Person) -> contracts.User:
    return to_user(await people.get_user(tx, actor, name=name))


@router.delete("/users/{name}")
async def disable_user(name: str, tx: Transaction, actor: Person) -> contracts.User:
    """Disable an account for good; its sessions end at once."""
    return to_user(await people.disable_user(tx, actor, name=name))


@router.post("/users/{name}/enrolments", status_code=201, response_model=contracts.EnrolmentCode)
async def enrol_again(name: str, call: Posted) -> Response:
    """Make a new code because factors are lost; what the user had ends now."""
    code = await enrolment.create_user_code(call.tx, call.actor, name=name)
    return call.created(to_code(code), secret=True)


@router.get("/users/{name}/roles")
async def list_roles(name: str, tx: Transaction, actor: Person) -> Rows[contracts.RoleGrant]:
    """List every role that a user ever held."""
    found = await people.list_grants(tx, actor, name=name)
    return Rows(items=tuple(to_grant(row) for row in found))


@router.post("/users/{name}/roles", status_code=201, response_model=contracts.RoleGrant)
async def grant_role(name: str, body: contracts.GrantRole, call: Posted) -> Response:
    grant = await people.grant_role(call.tx, call.actor, name=name, role=Role(body.role))
    return call.created(to_grant(grant))


@router.delete("/users/{name}/roles/{role}")
async def revoke_role(name: str, role: contracts.RoleName, tx: Transaction, actor: Person) -> contracts.RoleGrant:
    return to_grant(await people.revoke_role(tx, actor, name=name, role=Role(role)))


def to_user(view: PersonView) -> contracts.User:
    row = view.principal
    return contracts.User(
        id=row.id,
        kind=row.kind,
        name=row.name,
        project=row.project,
        roles=view.roles,
        created_at=row.created_at,
        enrolled_at=row.enrolled_at,
        disabled_at=row.disabled_at,
    )


def to_grant(row: RoleGrant) -> contracts.RoleGrant:
    return contracts.RoleGrant.model_validate(row, from_attributes=True)


def to_code(made: NewCode) -> contracts.EnrolmentCode:
    return contracts.EnrolmentCode(code=made.code, roles=made.roles, expires_at=made.expires_at)
