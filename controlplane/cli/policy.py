"""redoubt policy: what may be done, what a change would do, and two people who let it happen."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.policy_file import read_draft, to_text
from controlplane.cli.policy_screen import HISTORY_COLUMNS, SET_COLUMNS, VERB_COLUMNS, show_answer, show_replay
from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.policy import PolicyClient
from controlplane.contracts import policy as shapes
from controlplane.kit.errors import NotFound, Refused

policies = typer.Typer(no_args_is_help=True, help="Who may do what: policy sets, and the reason for an answer.")

Version = Annotated[int, typer.Argument(min=0, help="A version of `redoubt policy list`; 0 is the shipped set.")]
File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A set, as `redoubt policy show` prints it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask after showing what would change.")]


@policies.command("list")
def list_sets(context: typer.Context, *, as_json: Json = False) -> None:
    """List the versions, newest first; 0, the shipped set, is always there."""
    with connect(context) as client:
        show([*client.list_sets(), client.get_set("0")], SET_COLUMNS, as_json=as_json, empty="")


@policies.command("verbs")
def list_verbs(context: typer.Context, *, as_json: Json = False) -> None:
    """List every verb with the roles that it is meant for."""
    with connect(context) as client:
        show(client.list_verbs(), VERB_COLUMNS, as_json=as_json, empty="")


@policies.command("show")
def show_set(
    context: typer.Context,
    version: Annotated[str, typer.Argument(help="A version, or nothing for the one in force.")] = "current",
    *,
    as_json: Json = False,
) -> None:
    """Print a set as a file to edit and to propose."""
    with connect(context) as client:
        found = client.get_set(version)
    show_json(found.model_dump(mode="json")) if as_json else say(to_text(found).rstrip())


@policies.command("check")
def check_set(context: typer.Context, file: File, *, as_json: Json = False) -> None:
    """Say whether a set is sound: it parses, fits the schema, does what its examples say, and leaves a way back."""
    with connect(context) as client:
        found = client.check_set(read_draft(file))
    if as_json:
        show_json(found.model_dump(mode="json"))
    else:
        say(f"sound: {found.policies} policies, {found.examples} examples, digest {found.digest}")


@policies.command("propose")
def propose_set(context: typer.Context, file: File, *, as_json: Json = False) -> None:
    """Propose a set; a security administrator approves it, then it can be published."""
    with connect(context) as client:
        _show_proposed(client.propose_set(read_draft(file)), as_json=as_json)


@policies.command("roll-back")
def roll_back(
    context: typer.Context,
    version: Version,
    reason: Annotated[str, typer.Option(help="Why.")] = "roll back",
    *,
    as_json: Json = False,
) -> None:
    """Propose that an older version comes into force again; two people, as for every other."""
    with connect(context) as client:
        made = client.propose_publication(version, shapes.ProposePublication(reason=reason))
    _show_proposed(made, as_json=as_json)


@policies.command("replay")
def replay_set(context: typer.Context, version: Version, *, as_json: Json = False) -> None:
    """Ask a version the last ten thousand questions, and show the answers that would be others."""
    with connect(context) as client:
        found = client.replay_set(version)
    show_json(found.model_dump(mode="json")) if as_json else show_replay(found)


@policies.command("approve")
def approve_set(context: typer.Context, version: Version, *, yes: Yes = False, as_json: Json = False) -> None:
    """Show what a proposed version would have flipped, and approve it."""
    with connect(context) as client:
        waiting = _approval(client, version, "waiting")
        _look_first(client, version, "Approve it?", yes=yes or as_json)
        done = client.approve(waiting.id)
    if as_json:
        show_json(done.model_dump(mode="json"))
    else:
        say(f"{done.id} is approved; next: redoubt policy publish {version}")


@policies.command("publish")
def publish_set(context: typer.Context, version: Version, *, yes: Yes = False, as_json: Json = False) -> None:
    """Show what an approved version would have flipped, and bring it into force within a second."""
    with connect(context) as client:
        approved = _approval(client, version, "approved")
        _look_first(client, version, "Publish it?", yes=yes or as_json)
        made = client.publish_set(version, shapes.Publish(approval_id=approved.id))
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        say(f"policy set {version} is in force; back: redoubt policy roll-back VERSION")


@policies.command("history")
def list_history(context: typer.Context, *, as_json: Json = False) -> None:
    """List what was in force since when, and which two people made it so."""
    with connect(context) as client:
        show(client.list_publications(), HISTORY_COLUMNS, as_json=as_json, empty="only the shipped set was in force")


@policies.command("explain")
def explain(
    context: typer.Context,
    who: Annotated[str, typer.Argument(help="`me`, a person's name, or with --role anybody.")],
    what: Annotated[str, typer.Argument(help="A verb, e.g. endpoint.create.")],
    resource: Annotated[str, typer.Argument(help="What it is done to.")] = "site",
    role: Annotated[list[str] | None, typer.Option(help="As if WHO held this role; may be repeated.")] = None,
    of: Annotated[str, typer.Option("--as-of-project", help="As if WHO belonged to this project.")] = "",
    kind: Annotated[str, typer.Option(help="What the resource is; else the verb's noun.")] = "",
    project: Annotated[str, typer.Option(help="The project that owns the resource.")] = "",
    zone: Annotated[str, typer.Option(help="The zone that the resource is in.")] = "",
    classification: Annotated[int, typer.Option(min=0, max=3, help="0 public to 3 secret.")] = 0,
    jurisdiction: Annotated[list[str] | None, typer.Option(help="Where its label lets it be; repeatable.")] = None,
    to: Annotated[str, typer.Option(help="Where data would go: ZONE:COUNTRY:CLEARANCE, e.g. north:DE:2.")] = "",
    *,
    no_factor: Annotated[bool, typer.Option("--no-factor", help="As if WHO had shown no second factor.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether WHO may do WHAT to RESOURCE, why, and what would change the answer. Exit 3 if not."""
    thing = shapes.Thing(
        kind=kind or what.partition(".")[0], id=resource, project=project, zone=zone,
        classification=classification, jurisdictions=tuple(jurisdiction or ()),
    )  # fmt: skip
    ask = shapes.AccessCheck(
        who=who, verb=what, resource=thing, to=_where(to), roles=tuple(role) if role else None, project=of or None,
        second_factor=not no_factor, stepped_up=not no_factor,
    )  # fmt: skip
    with connect(context) as client:
        answer = client.check_access(ask)
    show_json(answer.model_dump(mode="json")) if as_json else show_answer(answer)
    if answer.outcome != "allow":
        raise typer.Exit(Refused.exit_code)


def connect(context: typer.Context) -> PolicyClient:
    return connect_as(context, PolicyClient)


def _where(text: str) -> shapes.Where | None:
    if not text:
        return None
    zone, _, rest = text.partition(":")
    country, _, clearance = rest.partition(":")
    return shapes.Where(zone=zone, jurisdiction=country, clearance=int(clearance) if clearance.isdecimal() else 0)


def _show_proposed(made: shapes.ProposedSet, *, as_json: bool) -> None:
    if as_json:
        show_json(made.model_dump(mode="json"))
        return
    show_replay(made.replay)
    say(f"policy set {made.set.version} is proposed as {made.approval_id}")
    say(f"next, by a security administrator who is not you: redoubt policy approve {made.set.version}")


def _look_first(client: PolicyClient, version: int, question: str, *, yes: bool) -> None:
    if not yes:
        show_replay(client.replay_set(version))
        typer.confirm(question, abort=True)


def _approval(client: PolicyClient, version: int, state: str) -> shapes.ApprovalView:
    """Return the newest approval of a version's publication in this state."""
    for found in client.list_approvals(every=False):
        if found.action == "policy.publish" and found.subject.get("version") == version and found.state == state:
            return found
    raise NotFound(
        f"no publication of policy set {version} is {state}",
        remedy="redoubt approval list; or propose it: redoubt policy roll-back VERSION",
    )
