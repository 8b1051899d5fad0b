"""redoubt allocation explain and redoubt lease: what an ask would get, and who holds which GPUs."""

import re
from datetime import datetime
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.allocation import AllocationClient
from controlplane.contracts import allocation as contracts
from controlplane.kit.errors import BadInput

LEASE_COLUMNS = [
    ("OWNER", "owner"), ("GPUS", "count"), ("TYPE", "gpu_type"), ("NODE", "node"), ("SHARE", "share"), ("POOL", "pool"),
]  # fmt: skip
ENDED_COLUMNS = [*LEASE_COLUMNS[:-1], ("ENDED", "ended_at"), ("WHY", "end_reason")]
GPU_COLUMNS = [("NODE", "node"), ("GPU", "uuid"), ("TYPE", "type"), ("VERDICT", "verdict"), ("WHY", "reason")]
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)

allocation = typer.Typer(no_args_is_help=True, help="What an ask for GPUs would get, and why.")
leases = typer.Typer(no_args_is_help=True, help="Who holds which GPUs.")


@allocation.command("explain")
def explain(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="Whole GPUs on one node.")],
    project: Annotated[str, typer.Option(help="The project or team that asks.")] = "redoubt",
    pool: Annotated[str, typer.Option(help="inference, interactive or training.")] = "training",
    gpu_type: Annotated[str, typer.Option("--type", help='Such as h100; "" takes any one type.')] = "",
    memory: Annotated[str, typer.Option(help="Needed on each GPU, such as 40GiB.")] = "",
    zone: Annotated[str, typer.Option(help="Where it may run.")] = "",
    time_s: Annotated[int, typer.Option(min=0, help="How long it wants to run; 0 as long as the pool lets it.")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Say whether an ask fits now, where, whom it would preempt, and what would make it fit. Nothing is changed."""
    asked = {
        "gpus": str(gpus), "project": project, "pool": pool, "gpu_type": gpu_type, "zone": zone,
        "memory_bytes": str(to_bytes(memory)), "time_s": str(time_s),
    }  # fmt: skip
    with connect_as(context, AllocationClient) as client:
        found = client.explain(**asked)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    for line in lines_of(found):
        say(line)
    show(found.gpus, GPU_COLUMNS, as_json=False, empty="no node of the site has a GPU")


def lines_of(found: contracts.Explanation) -> list[str]:
    """Return what a person reads first: the answer, then why, then the way forward."""
    if found.fits:
        hours = f"{found.time_limit_s // 3600} h {found.time_limit_s % 3600 // 60} min"
        lines = [f"fits on {', '.join(found.nodes[:5])}{' …' if len(found.nodes) > 5 else ''}"]
        if found.preempts:
            lines = [f"fits on {found.nodes[0]} after preempting: {'; '.join(found.preempts)}"]
        return [*lines, f"  runs as {found.qos}, at most {hours}"]
    why = [f"  - {reason}" for reason in found.reasons]
    ways = [f"  it fits when {way}" for way in found.would_fit]
    return [f"does not fit ({found.code})", *why, *ways, f"  next: {found.remedy}"]


@leases.command("list")
def list_leases(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that ended, too.")] = False,
    as_json: Json = False,
) -> None:
    """List who holds which GPUs and until when."""
    with connect_as(context, AllocationClient) as client:
        columns = ENDED_COLUMNS if every else LEASE_COLUMNS
        show(client.list_all_leases(live=not every), columns, as_json=as_json, empty="no GPU is leased")


@leases.command("show")
def show_lease(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="LEASE", help="Its id, or who holds it.")],
    *,
    as_json: Json = False,
) -> None:
    """Show one lease and its GPUs."""
    with connect_as(context, AllocationClient) as client:
        found = client.get_lease(name)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show([found], ENDED_COLUMNS if found.ended_at else LEASE_COLUMNS, as_json=False, empty="")
    say(f"lease {found.id}, granted {_at(found.granted_at)}, until {_at(found.expires_at)}")
    say(f"GPUs: {', '.join(found.gpu_uuids) or 'granted; the engine has not said which'}")


def _at(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC" if time else "further notice"


def to_bytes(size: str) -> int:
    """Read 40GiB, 40G or 512MiB; all are powers of 1024, as GPU memory is."""
    if not size:
        return 0
    read = SIZE.fullmatch(size.strip())
    if read is None:
        raise BadInput(f"{size} is no size", remedy="write it as 40GiB")
    return int(float(read[1]) * UNITS[read[2].lower()])
