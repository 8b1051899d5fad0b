"""redoubt pool and reservation: what work is for, and which nodes are kept for something."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show
from controlplane.cli.session import connect_as
from controlplane.client.allocation import AllocationClient
from controlplane.contracts import allocation as contracts
from controlplane.kit.errors import BadInput

POOL_COLUMNS = [
    ("POOL", "name"), ("GPUS AT MOST", "max_gpus"), ("A PROJECT", "project_most"), ("LONGEST s", "max_time_s"),
    ("GRACE s", "grace_s"), ("PRIORITY", "priority"), ("BEYOND GUARANTEE", "over_priority"),
]  # fmt: skip
RESERVATION_COLUMNS = [
    ("NAME", "name"), ("KIND", "kind"), ("FROM", "starts_at"), ("UNTIL", "ends_at"), ("NODES", "nodes"),
    ("HOW MANY", "node_count"), ("CHOSEN", "chosen"), ("FOR", "accounts"), ("WHY", "reason"),
]  # fmt: skip

pools = typer.Typer(no_args_is_help=True, help="Pools: inference, interactive, training and spare.")
reservations = typer.Typer(no_args_is_help=True, help="Nodes that are kept for something.")

Time = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"], help="UTC.")]


@pools.command("list")
def list_pools(context: typer.Context, *, as_json: Json = False) -> None:
    """List pools with their limits."""
    with connect_as(context, AllocationClient) as client:
        show(client.list_pools(), POOL_COLUMNS, as_json=as_json, empty="no pools")


@pools.command("set")
def set_pool(
    context: typer.Context,
    pool: Annotated[str, typer.Argument(help="inference, interactive, training or spare.")],
    gpus: Annotated[
        list[str] | None, typer.Option(help="TYPE=N at most at once, or TYPE=none; may be repeated.")
    ] = None,
    project_most: Annotated[str, typer.Option(help="GPUs of it for one project, or none for no limit.")] = "",
    max_time_s: Annotated[int | None, typer.Option(min=60, help="The longest that work runs.")] = None,
    grace_s: Annotated[int | None, typer.Option(min=0, help="Between the warning of a preemption and the end.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, help="Of work within its guarantee.")] = None,
    over_priority: Annotated[int | None, typer.Option(min=0, help="Of work beyond it.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Change the terms of a pool; what is not given stays, and running work keeps what it began under."""
    limits = dict(_to_limit(word) for word in gpus or ())
    free = [name for name, most in limits.items() if most is None] + (
        ["project_most"] if project_most == "none" else []
    )
    ask = contracts.SetPool(
        max_gpus={name: most for name, most in limits.items() if most is not None} or None,
        project_most=_to_number(project_most) if project_most not in ("", "none") else None,
        max_time_s=max_time_s,
        grace_s=grace_s,
        priority=priority,
        over_priority=over_priority,
        unbounded=tuple(free),
    )
    with connect_as(context, AllocationClient) as client:
        show([client.set_pool(pool, ask)], POOL_COLUMNS, as_json=as_json, empty="")


@reservations.command("create")
def create_reservation(
    context: typer.Context,
    name: Annotated[str, typer.Argument()],
    kind: Annotated[str, typer.Option(help="maintenance, guaranteed or spare.")],
    node: Annotated[list[str] | None, typer.Option(help="A node by name; may be repeated.")] = None,
    nodes: Annotated[int, typer.Option(min=0, help="So many nodes of the scheduler's choice.")] = 0,
    account: Annotated[list[str] | None, typer.Option(help="For whom; may be repeated.")] = None,
    starts: Time = None,
    until: Time = None,
    reason: Annotated[str, typer.Option(help="For whoever looks at night.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Keep nodes: for maintenance, for some projects, or to stand in for nodes that are lost."""
    asked = {
        "name": name, "kind": kind, "starts_at": starts and starts.replace(tzinfo=UTC),
        "ends_at": until and until.replace(tzinfo=UTC), "nodes": tuple(node or ()), "node_count": nodes,
        "accounts": tuple(account or ()), "reason": reason,
    }  # fmt: skip
    ask = contracts.CreateReservation.model_validate(asked)
    with connect_as(context, AllocationClient) as client:
        show([client.create_reservation(ask)], RESERVATION_COLUMNS, as_json=as_json, empty="")


@reservations.command("list")
def list_reservations(context: typer.Context, *, as_json: Json = False) -> None:
    """List what is or will be kept."""
    with connect_as(context, AllocationClient) as client:
        show(client.list_reservations(), RESERVATION_COLUMNS, as_json=as_json, empty="no node is kept for anything")


@reservations.command("delete")
def delete_reservation(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    """Give the nodes back."""
    with connect_as(context, AllocationClient) as client:
        client.delete_reservation(name)
    say(f"{name} is deleted; its nodes take work again")


def _to_limit(word: str) -> tuple[str, int | None]:
    name, equals, most = word.partition("=")
    if not equals:
        raise BadInput(f"{word} is no limit", remedy="write --gpus h100=8, or --gpus h100=none")
    return name, None if most == "none" else _to_number(most)


def _to_number(word: str) -> int:
    if not word.isdecimal():
        raise BadInput(f"{word} is no number of GPUs", remedy="write a whole number, or none")
    return int(word)
