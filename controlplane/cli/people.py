"""redoubt user and role: who may be here, and what they may do."""

from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as, profile_of
from controlplane.client.identity import IdentityClient
from controlplane.contracts import identity

users = typer.Typer(no_args_is_help=True, help="Users of the site: staff, and people of its tenants.")
roles = typer.Typer(no_args_is_help=True, help="Roles: given by one person to another, and on record for good.")

USER_COLUMNS = [
    ("NAME", "name"), ("ROLES", "roles"), ("PROJECT", "project"), ("ENROLLED", "enrolled_at"),
    ("DISABLED", "disabled_at"), ("ID", "id"),
]  # fmt: skip
GRANT_COLUMNS = [
    ("ROLE", "role"), ("SINCE", "granted_at"), ("BY", "granted_by"), ("UNTIL", "revoked_at"),
    ("ENDED BY", "revoked_by"),
]  # fmt: skip
ENROL_COMMAND = """\
Give this to {name}, who enrols with it within the hour. The code is shown this once:
  redoubt enrol --url {url} --ca site-ca.crt --code {code}"""

Name = Annotated[str, typer.Argument(metavar="NAME")]
RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="For example operator or auditor.")]


@users.command("create")
def create_user(
    context: typer.Context,
    name: Name,
    role: Annotated[list[str], typer.Option(help="What the user may do; may be repeated.")],
    project: Annotated[str, typer.Option(help="The tenant, for tenant-admin and tenant-user.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Make an account, and the code with which one person takes it."""
    ask = identity.CreateUser.model_validate({"name": name, "project": project, "roles": role}, strict=False)
    with connect_as(context, IdentityClient) as client:
        made = client.create_user(ask)
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        say(ENROL_COMMAND.format(name=name, url=profile_of(context).url, code=made.enrolment.code))


@users.command("list")
def list_users(context: typer.Context, *, as_json: Json = False) -> None:
    """List users with their roles."""
    with connect_as(context, IdentityClient) as client:
        show(client.list_users(), USER_COLUMNS, as_json=as_json, empty="nobody")


@users.command("show")
def show_user(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Show one user."""
    with connect_as(context, IdentityClient) as client:
        user = client.get_user(name)
    show_json(user.model_dump(mode="json")) if as_json else show([user], USER_COLUMNS, as_json=False, empty="")


@users.command("disable")
def disable_user(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """End an account for good; its sessions end at once and its history stays."""
    with connect_as(context, IdentityClient) as client:
        user = client.disable_user(name)
    show_json(user.model_dump(mode="json")) if as_json else say(f"{user.name} is disabled, and every session with it")


@users.command("enrol-again")
def enrol_again(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """Make a new code for somebody whose factors are lost; what that user had ends now."""
    with connect_as(context, IdentityClient) as client:
        made = client.enrol_again(name)
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        say(ENROL_COMMAND.format(name=name, url=profile_of(context).url, code=made.code))


@roles.command("grant")
def grant_role(context: typer.Context, name: Name, role: RoleArgument, *, as_json: Json = False) -> None:
    """Give somebody else a role; it counts at once."""
    ask = identity.GrantRole.model_validate({"role": role})
    with connect_as(context, IdentityClient) as client:
        made = client.grant_role(name, ask)
    show_json(made.model_dump(mode="json")) if as_json else say(f"{name} is {made.role}")


@roles.command("revoke")
def revoke_role(context: typer.Context, name: Name, role: RoleArgument, *, as_json: Json = False) -> None:
    """Take a role away; it is gone at the next request."""
    with connect_as(context, IdentityClient) as client:
        ended = client.revoke_role(name, role)
    show_json(ended.model_dump(mode="json")) if as_json else say(f"{name} is no {ended.role} any more")


@roles.command("list")
def list_roles(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
    """List every role that somebody ever held, and who gave and took it."""
    with connect_as(context, IdentityClient) as client:
        show(client.list_roles(name), GRANT_COLUMNS, as_json=as_json, empty=f"{name} never held a role")
