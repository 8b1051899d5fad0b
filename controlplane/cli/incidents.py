"""redoubt incident: what is wrong with the site, and what was."""

from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect

incidents = typer.Typer(no_args_is_help=True, help="What is wrong with the site, and what was.")

INCIDENT_COLUMNS = [
    ("INCIDENT", "id"), ("KIND", "kind"), ("SUBJECT", "subject"), ("OPENED", "opened_at"), ("CLOSED", "closed_at"),
    ("TIMES", "times"), ("WHAT", "detail"),
]  # fmt: skip


@incidents.command("list")
def list_incidents(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List incidents, newest first."""
    with connect(context) as client:
        show(client.list_incidents(every=every), INCIDENT_COLUMNS, as_json=as_json, empty="no incident is open")


@incidents.command("show")
def show_incident(
    context: typer.Context, incident_id: Annotated[str, typer.Argument()], *, as_json: Json = False
) -> None:
    """Show one incident in full."""
    with connect(context) as client:
        found = client.get_incident(incident_id)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    for field, value in found.model_dump(mode="json").items():
        say(f"{field:<16} {value if value is not None else '-'}")
