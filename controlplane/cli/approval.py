"""redoubt approval: what one person asks for and a security administrator lets happen, once."""

from typing import Annotated

import typer

from controlplane.cli.policy import connect
from controlplane.cli.screen import Json, say, show, show_json
from controlplane.contracts import policy as shapes
from controlplane.kit.errors import BadInput

approvals = typer.Typer(no_args_is_help=True, help="Things that want two people.")

APPROVAL_COLUMNS = [
    ("APPROVAL", "id"), ("ACTION", "action"), ("STATE", "state"), ("PROPOSED BY", "proposed_by"),
    ("UNTIL", "expires_at"), ("DECIDED BY", "decided_by"), ("WHY", "reason"),
]  # fmt: skip
ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL")]


@approvals.command("list")
def list_approvals(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Decided, spent and expired ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List what waits for a second person, or was approved and is not done yet."""
    with connect(context) as client:
        show(client.list_approvals(every=every), APPROVAL_COLUMNS, as_json=as_json, empty="nothing waits")


@approvals.command("show")
def show_approval(context: typer.Context, approval_id: ApprovalId, *, as_json: Json = False) -> None:
    """Show one with all that it is about."""
    with connect(context) as client:
        found = client.get_approval(approval_id).model_dump(mode="json")
    if as_json:
        show_json(found)
        return
    for field, value in found.items():
        say(f"{field:<12} {value if value is not None else '-'}")


@approvals.command("propose")
def propose(
    context: typer.Context,
    action: Annotated[str, typer.Argument(help="A verb that wants two people.")],
    about: Annotated[list[str] | None, typer.Argument(help="All that it is given, as NAME=VALUE.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    hours: Annotated[int, typer.Option(min=1, max=168, help="How long it may wait and be spent.")] = 24,
    *,
    as_json: Json = False,
) -> None:
    """Ask a security administrator to let you do one thing, once."""
    subject: dict[str, str | int | bool | None] = dict(_pair(word) for word in about or ())
    ask = shapes.ProposeApproval(action=action, subject=subject, reason=reason or action, hours=hours)
    with connect(context) as client:
        _show(client.propose(ask), as_json=as_json)


@approvals.command("approve")
def approve(context: typer.Context, approval_id: ApprovalId, *, as_json: Json = False) -> None:
    """Let it happen. What you proposed yourself, another one has to approve."""
    with connect(context) as client:
        _show(client.approve(approval_id), as_json=as_json)


@approvals.command("refuse")
def refuse(context: typer.Context, approval_id: ApprovalId, *, as_json: Json = False) -> None:
    """Say no, or take your own proposal back."""
    with connect(context) as client:
        _show(client.refuse(approval_id), as_json=as_json)


def _show(found: shapes.ApprovalView, *, as_json: bool) -> None:
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        say(f"{found.id} ({found.action}) is {found.state}")


def _pair(word: str) -> tuple[str, str | int]:
    """Read NAME=VALUE; a value of digits is a number, as the verb itself would get it."""
    name, sign, value = word.partition("=")
    if not sign or not name:
        raise BadInput(f"{word!r} is no NAME=VALUE", remedy="e.g. months=24")
    return name, int(value) if value.isdecimal() else value
