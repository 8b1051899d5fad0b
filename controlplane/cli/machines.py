"""redoubt node join-token, pending, approve, refuse, revoke and certificates: which machines may come in."""

from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as, profile_of
from controlplane.client.machines import MachinesClient
from controlplane.contracts import pki

JOIN_COLUMNS = [
    ("JOIN", "id"), ("NODE", "node"), ("ZONE", "zone"), ("FROM", "source"), ("ASKED", "asked_at"), ("STATE", "state"),
    ("FINGERPRINT", "fingerprint"),
]  # fmt: skip
CERTIFICATE_COLUMNS = [
    ("NODE", "node"), ("CERTIFICATE", "name"), ("FROM", "not_before"), ("UNTIL", "not_after"), ("SERIAL", "serial"),
]  # fmt: skip
REVOCATION_COLUMNS = [
    ("NODE", "node"), ("REVOKED", "revoked_at"), ("BY", "revoked_by"), ("WHY", "reason"), ("JOINED AGAIN", "lifted_at"),
]  # fmt: skip
JOIN_COMMAND = """\
On {node}, as the user of its agent, within the hour:
  cd / && runuser -u redoubt-agent -- /opt/redoubt/venv/bin/python -m controlplane.main.join \\
    --config /etc/redoubt/agent.toml --url {url}
It asks for this token, which is shown this once and lets one key in as {node} of zone {zone}:
  {token}
Then compare the fingerprint it prints with: redoubt node pending --all"""

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="A node of the site spec.")]


def add_to(nodes: typer.Typer) -> None:
    """Add these verbs to `redoubt node`."""
    nodes.command("join-token")(create_join_token)
    nodes.command("pending")(list_joins)
    nodes.command("approve")(approve_join)
    nodes.command("refuse")(refuse_join)
    nodes.command("revoke")(revoke_node)
    nodes.command("revocations")(list_revocations)
    nodes.command("certificates")(list_certificates)


def create_join_token(context: typer.Context, node: NodeName, *, as_json: Json = False) -> None:
    """Make a token that lets one machine in as this node; it counts once and for one hour."""
    with _connect(context) as client:
        made = client.create_join_token(node)
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        url = profile_of(context).url
        say(JOIN_COMMAND.format(node=made.node, zone=made.zone, token=made.token, url=url))


def list_joins(
    context: typer.Context,
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that were decided, too.")] = False,
    as_json: Json = False,
) -> None:
    """List machines that wait to be let in, with the fingerprint of their key."""
    with _connect(context) as client:
        show(client.list_joins(every=every), JOIN_COLUMNS, as_json=as_json, empty="no machine waits")


def approve_join(
    context: typer.Context,
    join_id: Annotated[str, typer.Argument(metavar="JOIN")],
    fingerprint: Annotated[str, typer.Option(help="What the node's own screen shows.")],
    *,
    as_json: Json = False,
) -> None:
    """Let a waiting machine in, after comparing its fingerprint."""
    with _connect(context) as client:
        done = client.approve_join(join_id, pki.ApproveJoin(fingerprint=fingerprint.replace(":", "").lower()))
    show_json(done.model_dump(mode="json")) if as_json else say(f"{done.node} is let in; its join takes it from here")


def refuse_join(
    context: typer.Context, join_id: Annotated[str, typer.Argument(metavar="JOIN")], *, as_json: Json = False
) -> None:
    """Refuse a waiting machine; its token is spent."""
    with _connect(context) as client:
        done = client.refuse_join(join_id)
    show_json(done.model_dump(mode="json")) if as_json else say(f"the join of {done.node} is refused")


def revoke_node(
    context: typer.Context,
    node: NodeName,
    reason: Annotated[str, typer.Option(help="Why; it stays on record.")],
    *,
    as_json: Json = False,
) -> None:
    """Put a machine out at once, with every service on it."""
    with _connect(context) as client:
        done = client.revoke_node(node, pki.RevokeNode(reason=reason))
    if as_json:
        show_json(done.model_dump(mode="json"))
    else:
        say(f"{done.node} is out since {done.revoked_at.isoformat()}")
        say(f"  to let it in again: redoubt node join-token {done.node}")


def list_revocations(context: typer.Context, *, as_json: Json = False) -> None:
    """List nodes that were put out, and when they joined again."""
    with _connect(context) as client:
        show(client.list_revocations(), REVOCATION_COLUMNS, as_json=as_json, empty="no node was ever revoked")


def list_certificates(context: typer.Context, *, as_json: Json = False) -> None:
    """List the certificates that lie on every node, as its agent tells."""
    with _connect(context) as client:
        empty = "no agent has told of a certificate yet"
        show(client.list_certificates(), CERTIFICATE_COLUMNS, as_json=as_json, empty=empty)


def _connect(context: typer.Context) -> MachinesClient:
    return connect_as(context, MachinesClient)
