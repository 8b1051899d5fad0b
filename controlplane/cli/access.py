"""redoubt audit: what happened."""

from typing import Annotated

import typer

from controlplane.cli.screen import Json, show
from controlplane.cli.session import connect

events = typer.Typer(no_args_is_help=True, help="What happened, and who did it.")


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
