"""redoubt client, service, device and signing-key: who signs people in through this site, and who signs in alone."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.service_profile import make_key, new_profile, public_key_of
from controlplane.cli.session import connect_as, profile_of, save
from controlplane.client.oauth import OauthClient
from controlplane.contracts import oauth

clients = typer.Typer(no_args_is_help=True, help="Applications that let people sign in through this site.")
services = typer.Typer(no_args_is_help=True, help="Programs that sign in by themselves, with a key of their own.")
devices = typer.Typer(no_args_is_help=True, help="Sign-ins that wait for somebody to approve them.")
signing_keys = typer.Typer(no_args_is_help=True, help="Keys that sign who signed in; they turn every 90 days.")

COLUMNS = [
    ("CLIENT", "id"), ("NAME", "name"), ("KIND", "kind"), ("PROOF", "proof"), ("SCOPES", "scopes"),
    ("DISABLED", "disabled_at"),
]  # fmt: skip

ClientId = Annotated[str, typer.Argument(metavar="CLIENT")]
ScopeOption = Annotated[list[str] | None, typer.Option(help="What it may ask for; may be repeated.")]


@clients.command("create")
def create_client(
    context: typer.Context,
    name: Annotated[str, typer.Argument()],
    redirect_uri: Annotated[list[str], typer.Option(help="The exact address people come back to; may be repeated.")],
    kind: Annotated[Literal["web", "native"], typer.Option(help="A native program can keep no secret.")] = "web",
    scope: ScopeOption = None,
    post_logout_redirect_uri: Annotated[list[str] | None, typer.Option(help="Where people go signed out.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Register an application; its secret is shown this once."""
    asked = {
        "name": name,
        "kind": kind,
        "redirect_uris": redirect_uri,
        "post_logout_redirect_uris": post_logout_redirect_uri or [],
        "scopes": scope or ["openid", "profile"],
    }
    with connect_as(context, OauthClient) as client:
        made = client.create_client(oauth.CreateClient.model_validate(asked, strict=False))
    _show_new(made, as_json=as_json)


@clients.command("list")
def list_clients(context: typer.Context, *, as_json: Json = False) -> None:
    """List clients and services."""
    with connect_as(context, OauthClient) as client:
        show(client.list_clients(), COLUMNS, as_json=as_json, empty="none; make one: redoubt client create NAME")


@clients.command("show")
def show_client(context: typer.Context, client_id: ClientId, *, as_json: Json = False) -> None:
    """Show one client."""
    with connect_as(context, OauthClient) as client:
        found = client.get_client(client_id)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    for name, value in found.model_dump(mode="json").items():
        say(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value or '-'}")


@clients.command("disable")
def disable_client(context: typer.Context, client_id: ClientId, *, as_json: Json = False) -> None:
    """End a client and every session that it was given, at once and for good."""
    with connect_as(context, OauthClient) as client:
        ended = client.disable_client(client_id)
    show_json(ended.model_dump(mode="json")) if as_json else say(f"{ended.id} ({ended.name}) is disabled")


@clients.command("rotate-key")
def rotate_key(
    context: typer.Context,
    client_id: ClientId,
    public_key: Annotated[
        Path | None, typer.Option(help="The new key's public half, PEM; without it a new secret is made.", exists=True)
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Give a client a new secret, or a new key; a key's predecessor counts until the next rotation."""
    key = None if public_key is None else public_key_of(public_key)
    with connect_as(context, OauthClient) as client:
        _show_new(client.rotate_client(client_id, oauth.RotateClient(public_key=key)), as_json=as_json)


@services.command("create")
def create_service(
    context: typer.Context,
    name: Annotated[str, typer.Argument()],
    role: Annotated[list[str], typer.Option(help="What it may do; may be repeated.")],
    key_file: Annotated[Path | None, typer.Option(help="Where its private key goes; made here, never sent.")] = None,
    certificate_uri: Annotated[
        str | None, typer.Option(help="Prove it by its certificate instead: the URI name in it.")
    ] = None,
    project: Annotated[str, typer.Option(help="The tenant that it works for.")] = "",
    scope: ScopeOption = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a service with a key pair of its own; the profile that is written signs in by itself."""
    asked = {"name": name, "project": project, "roles": role, "scopes": scope or ["api"]}
    kept = None if certificate_uri else make_key(key_file or Path(f"{name}.key"))
    proof = {"certificate_uri": certificate_uri} if kept is None else {"public_key": kept.public.model_dump()}
    with connect_as(context, OauthClient) as client:
        made = client.create_service(oauth.CreateService.model_validate({**asked, **proof}, strict=False))
    written = None
    if kept is not None:
        written = kept.path.with_suffix(".profile.json")
        save(written, new_profile(profile_of(context), made, kept))
    if as_json:
        show_json({"client": made.model_dump(mode="json"), "profile": str(written or "")})
    else:
        say(f"{made.id} ({name}) may sign in")
        say(f"use it with: REDOUBT_PROFILE={written} redoubt whoami" if written else "it proves itself by certificate")


@devices.command("approve")
def approve_device(
    context: typer.Context,
    user_code: Annotated[str, typer.Argument(metavar="CODE", help="As the device shows it.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a device in as yourself: for a site without a browser. It asks for your second factor."""
    with connect_as(context, OauthClient) as client:
        waiting = client.look_at_device(oauth.LookAtDevice(user_code=user_code))
        if not (yes or as_json):
            say(f"{waiting.client} asks from {waiting.source or 'this machine'} (it says: {waiting.host or 'nothing'})")
            say(f"for: {', '.join(waiting.scopes)}")
            typer.confirm("Is it yours?", abort=True)
        decided = client.decide_device(oauth.DecideDevice(user_code=user_code, approve=True))
    show_json(decided.model_dump(mode="json")) if as_json else say("approved; the device goes on by itself")


@devices.command("deny")
def deny_device(
    context: typer.Context,
    user_code: Annotated[str, typer.Argument(metavar="CODE", help="As the device shows it.")],
    *,
    as_json: Json = False,
) -> None:
    """Refuse a device."""
    with connect_as(context, OauthClient) as client:
        decided = client.decide_device(oauth.DecideDevice(user_code=user_code, approve=False))
    show_json(decided.model_dump(mode="json")) if as_json else say("denied")


@signing_keys.command("rotate")
def rotate_signing_keys(
    context: typer.Context,
    *,
    emergency: Annotated[bool, typer.Option("--emergency", help="A key leaked: end every older one at once.")] = False,
    as_json: Json = False,
) -> None:
    """Sign with the next key from now on."""
    with connect_as(context, OauthClient) as client:
        made = client.rotate_keys(oauth.RotateKeys(emergency=emergency))
    if as_json:
        show_json(made.model_dump())
        return
    say(f"{made.current} signs now; published: {', '.join(key.kid for key in made.published)}")
    if emergency:
        say("if the file of signing keys leaked too, put a new one in its place, restart redoubt-api, and rotate again")


def _show_new(made: oauth.NewClient, *, as_json: bool) -> None:
    if as_json:
        show_json(made.model_dump(mode="json"))
        return
    say(f"{made.client.id} ({made.client.name})")
    if made.secret is not None:
        say(f"{made.secret}\n(shown this once)")
