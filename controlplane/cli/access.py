"""redoubt enrol, whoami, key and audit: who may come in, and what happened."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import Profile, Session, connect, save, to_link
from controlplane.client.admin import AdminClient
from controlplane.contracts import admin

keys = typer.Typer(no_args_is_help=True, help="API keys: for administrators, and for applications.")
events = typer.Typer(no_args_is_help=True, help="What happened, and who did it.")


def enrol(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="The admin API, e.g. https://ctl1:8443.")],
    code: Annotated[
        str, typer.Option(help="The single-use code made on the control-plane node.", envvar="REDOUBT_CODE")
    ],
    name: Annotated[str, typer.Option(help="Your name.")] = "admin",
    ca: Annotated[Path | None, typer.Option(help="The site CA's certificate.", exists=True, dir_okay=False)] = None,
    gateway_url: Annotated[str, typer.Option(help="The gateway, for `redoubt ask`.")] = "",
) -> None:
    """Become the site's first administrator; the key is kept for later commands."""
    fresh = Profile(url=url.rstrip("/"), token="", ca=str(ca.resolve()) if ca else "", gateway_url=gateway_url)
    with AdminClient(to_link(fresh)) as client:
        made = client.enrol(admin.Enrol(code=code, name=name))
    session: Session = context.obj
    save(session.path, Profile(fresh.url, made.secret, fresh.ca, gateway_url))
    say(f"enrolled as {name}; the key is kept in {session.path}")


def whoami(context: typer.Context, *, as_json: Json = False) -> None:
    """Say who the site thinks you are."""
    with connect(context) as client:
        me = client.whoami()
    show_json(me.model_dump()) if as_json else say(f"{me.id}, {me.role}, at site {me.site}")


@keys.command("create")
def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    kind: Annotated[Literal["inference", "admin"], typer.Option(help="Which door it opens.")] = "inference",
    endpoint: Annotated[list[str] | None, typer.Option(help="Limit it to this endpoint; may be repeated.")] = None,
    expires_at: Annotated[datetime | None, typer.Option(help="When it ends, UTC.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown this once."""
    until = expires_at.replace(tzinfo=UTC) if expires_at else None
    ask = admin.CreateKey(kind=kind, name=name, endpoints=tuple(endpoint or ()), expires_at=until)
    with connect(context) as client:
        made = client.create_key(ask)
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        say(f"{made.secret}\n(shown this once; revoke it with: redoubt key revoke {made.key.id})")


@keys.command("list")
def list_keys(context: typer.Context, *, as_json: Json = False) -> None:
    """List keys; secrets are never shown again."""
    columns = [("KEY", "id"), ("KIND", "kind"), ("NAME", "name"), ("ENDPOINTS", "endpoints"), ("REVOKED", "revoked_at")]
    with connect(context) as client:
        show(client.list_keys(), columns, as_json=as_json, empty="no keys; make one: redoubt key create NAME")


@keys.command("revoke")
def revoke_key(context: typer.Context, key_id: Annotated[str, typer.Argument()], *, as_json: Json = False) -> None:
    """End a key; the gateway follows within a second."""
    with connect(context) as client:
        key = client.revoke_key(key_id)
    show_json(key.model_dump(mode="json")) if as_json else say(f"{key.id} ({key.name}) is revoked")


@events.command("list")
def list_events(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1)] = 50,
    *,
    as_json: Json = False,
) -> None:
    """List events, newest first."""
    columns = [("SEQ", "seq"), ("AT", "at"), ("ACTOR", "actor"), ("EVENT", "event"), ("RESOURCE", "resource")]
    with connect(context) as client:
        newest = [event for event, _ in zip(client.list_audit_events(), range(limit), strict=False)]
    show(newest, columns, as_json=as_json, empty="nothing happened yet")
