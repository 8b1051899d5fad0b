"""redoubt fleet and node: machines."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.incidents import INCIDENT_COLUMNS
from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect
from controlplane.contracts import admin
from controlplane.contracts.levels import LEVELS
from controlplane.sitespec.spec import Gpus, Node, Site
from controlplane.sitespec.text import parse_site

nodes = typer.Typer(no_args_is_help=True, help="Nodes: declared by the site spec, observed by their agents.")

NODE_COLUMNS = [("NODE", "name"), ("ZONE", "zone"), ("ADDRESS", "address"), ("STATE", "state"), ("WHY", "reasons")]
GPU_COLUMNS = [
    ("NODE", "node"), ("GPU", "index"), ("NAME", "name"), ("UUID", "uuid"), ("ISLAND", "island"), ("STATE", "state"),
]  # fmt: skip


def fleet(context: typer.Context, *, as_json: Json = False) -> None:
    """Show every node and GPU, and what is wrong with them."""
    with connect(context) as client:
        found, wrong = list(client.list_nodes()), list(client.list_incidents(every=False))
    if as_json:
        show_json([node.model_dump(mode="json") for node in found])
        return
    show(found, NODE_COLUMNS, as_json=False, empty="no nodes; declare them: redoubt node declare SITE.YML")
    show([gpu for node in found for gpu in node.gpus], GPU_COLUMNS, as_json=False, empty="no node reports a GPU")
    for node in found:
        for difference in node.differences:
            if difference not in node.reasons:
                say(f"{node.name} differs: {difference}")
    show(wrong, INCIDENT_COLUMNS, as_json=False, empty="no incident is open")


@nodes.command("list")
def list_nodes(context: typer.Context, *, as_json: Json = False) -> None:
    """List nodes with their state and the reason for it."""
    with connect(context) as client:
        show(client.list_nodes(), NODE_COLUMNS, as_json=as_json, empty="no nodes; redoubt node declare SITE.YML")


@nodes.command("show")
def show_node(context: typer.Context, name: Annotated[str, typer.Argument()], *, as_json: Json = False) -> None:
    """Show one node and its GPUs."""
    with connect(context) as client:
        node = client.get_node(name)
    if as_json:
        show_json(node.model_dump(mode="json"))
        return
    show([node], NODE_COLUMNS, as_json=False, empty="")
    show(node.gpus, GPU_COLUMNS, as_json=False, empty="this node reports no GPU")
    for difference in node.differences:
        say(f"differs: {difference}")


@nodes.command("declare")
def declare_nodes(
    context: typer.Context,
    site_file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The site's site.yml.")],
    *,
    as_json: Json = False,
) -> None:
    """Tell the control plane which nodes and zones the site spec declares."""
    ask = to_declaration(parse_site(site_file.read_text(), name=str(site_file)))
    with connect(context) as client:
        done = client.declare_nodes(ask)
    if as_json:
        show_json(done.model_dump())
    else:
        say(f"{len(ask.nodes)} nodes declared" if done.changed else "unchanged")


def to_declaration(site: Site) -> admin.DeclareNodes:
    """Return what the control plane needs to know of the site spec."""
    return admin.DeclareNodes(
        zones=tuple(
            admin.DeclareZone(name=z.name, jurisdiction=z.jurisdiction, clearance=LEVELS.index(z.clearance))
            for z in site.zones
        ),
        nodes=tuple(
            admin.DeclareNode(
                name=node.name,
                address=str(node.address),
                zone=node.zone,
                purposes=_purposes(site, node),
                gpus=tuple(_declared(gpu) for gpu in node.gpus),
            )
            for node in site.nodes
        ),
    )


def _declared(gpus: Gpus) -> admin.DeclareGpus:
    return admin.DeclareGpus(type=gpus.type, count=gpus.count, mig=gpus.layout)


def _purposes(site: Site, node: Node) -> tuple[str, ...]:
    services = site.services.model_dump()
    named = [
        service for service, hosts in services.items() if node.name in ((hosts,) if isinstance(hosts, str) else hosts)
    ]
    return (*sorted(named), *(("compute",) if node.gpus else ()))
