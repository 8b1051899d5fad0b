"""redoubt enrol, whoami and audit: who may come in, and what happened."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import Profile, Session, connect, save, to_link
from controlplane.client.admin import AdminClient
from controlplane.contracts import admin

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
