"""redoubt organisation, project, team and quota: who may use what."""

from enum import StrEnum
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.allocation import AllocationClient
from controlplane.contracts import allocation as contracts

COLUMNS = [
    ("NAME", "name"), ("KIND", "kind"), ("PART OF", "parent"), ("SLOT", "slot"), ("RUNS AS", "user"),
    ("WEIGHT", "weight"), ("KEEPS CONTENT", "keeps_content"), ("ARCHIVED", "archived"),
]  # fmt: skip
QUOTA_COLUMNS = [("SHARE", "share"), ("GPU", "gpu_type"), ("GUARANTEED", "guaranteed"), ("AT MOST", "most")]
PARENTS: dict[contracts.Kind, contracts.Kind] = {"project": "organisation", "team": "project"}


class KeepsContent(StrEnum):
    YES = "yes"
    NO = "no"


Name = Annotated[str, typer.Argument(metavar="NAME", help="A letter, then lower-case letters, digits and -.")]
Weight = Annotated[int, typer.Option(min=1, help="Its part of the fair share among its siblings.")]
quotas = typer.Typer(no_args_is_help=True, help="GPUs by type that an organisation, project or team may use.")


def make_nouns() -> dict[str, typer.Typer]:
    """Return `redoubt organisation`, `redoubt project` and `redoubt team`: one set of verbs each."""
    return {
        "organisation": _make_noun("organisation", "Organisations: what projects are parts of."),
        "project": _make_noun("project", "Projects: each has its own POSIX user, home and ports on every node."),
        "team": _make_noun("team", "Teams: parts of a project with quotas of their own."),
    }


def _make_noun(kind: contracts.Kind, about: str) -> typer.Typer:
    noun = typer.Typer(no_args_is_help=True, help=about)
    if kind in PARENTS:
        _add_create(noun, kind, PARENTS[kind])
    else:
        _add_create_on_top(noun)

    @noun.command("list")
    def list_shares(context: typer.Context, *, as_json: Json = False) -> None:
        """List them, archived ones too."""
        with connect_as(context, AllocationClient) as client:
            show(client.list_shares(kind), COLUMNS, as_json=as_json, empty=f"none; redoubt {kind} create NAME")

    @noun.command("show")
    def show_share(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
        """Show one and its quotas."""
        with connect_as(context, AllocationClient) as client:
            share = client.get_share(name)
            own = [quota for quota in client.list_quotas() if quota.share == name]
        if as_json:
            show_json(share.model_dump(mode="json") | {"quotas": [quota.model_dump(mode="json") for quota in own]})
            return
        show([share], COLUMNS, as_json=False, empty="")
        show(own, QUOTA_COLUMNS, as_json=False, empty=f"no quota; redoubt quota set {name} TYPE --most N")

    @noun.command("archive")
    def archive_share(context: typer.Context, name: Name, *, as_json: Json = False) -> None:
        """Let nothing new run; what runs finishes. Name and slot are never used again."""
        with connect_as(context, AllocationClient) as client:
            done = client.archive_share(name)
        show_json(done.model_dump(mode="json")) if as_json else say(f"{name} is archived; what runs there finishes")

    @noun.command("keep-content")
    def keep_content(
        context: typer.Context,
        name: Name,
        keeps: Annotated[KeepsContent, typer.Argument(help="Whether gateways may keep files and results of batches.")],
        *,
        as_json: Json = False,
    ) -> None:
        """Let gateways keep files and results of batches, sealed on their own disks; or no longer."""
        with connect_as(context, AllocationClient) as client:
            done = client.set_share(name, contracts.SetShare(keeps_content=keeps is KeepsContent.YES))
        said = f"content of {name} may be kept" if done.keeps_content else f"content of {name} is kept no longer"
        show_json(done.model_dump(mode="json")) if as_json else say(said)

    return noun


def _add_create(noun: typer.Typer, kind: contracts.Kind, whole: contracts.Kind) -> None:
    @noun.command("create")
    def create_share(
        context: typer.Context,
        name: Name,
        parent: Annotated[str, typer.Option("--in", help=f"The {whole} that it is a part of.")],
        weight: Weight = 1,
        *,
        as_json: Json = False,
    ) -> None:
        """Make one; it may use nothing until it has a quota."""
        _create(context, contracts.CreateShare(kind=kind, name=name, parent=parent, weight=weight), as_json=as_json)


def _add_create_on_top(noun: typer.Typer) -> None:
    @noun.command("create")
    def create_share(context: typer.Context, name: Name, weight: Weight = 1, *, as_json: Json = False) -> None:
        """Make one; projects are made in it."""
        _create(context, contracts.CreateShare(kind="organisation", name=name, weight=weight), as_json=as_json)


def _create(context: typer.Context, ask: contracts.CreateShare, *, as_json: bool) -> None:
    with connect_as(context, AllocationClient) as client:
        made = client.create_share(ask)
    if as_json:
        show_json(made.model_dump(mode="json"))
        return
    runs = f"; its work runs as {made.user}" if made.user else ""
    say(f"{made.kind} {made.name} is there{runs}")
    say(f"next: redoubt quota set {made.name} TYPE --guaranteed N --most N")


@quotas.command("set")
def set_quota(
    context: typer.Context,
    share: Annotated[str, typer.Argument(help="An organisation, a project or a team.")],
    gpu_type: Annotated[str, typer.Argument(help="Such as h100; redoubt gpu list shows those of the site.")],
    most: Annotated[int, typer.Option(min=0, help="Beyond this there is none; 0 takes the type away.")],
    guaranteed: Annotated[int, typer.Option(min=0, help="So many are taken away by nobody else.")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Say how many GPUs of a type it may use; what runs goes on."""
    with connect_as(context, AllocationClient) as client:
        done = client.set_quota(share, gpu_type, contracts.SetQuota(guaranteed=guaranteed, most=most))
    show([done], QUOTA_COLUMNS, as_json=as_json, empty="")


@quotas.command("list")
def list_quotas(context: typer.Context, *, as_json: Json = False) -> None:
    """List who may use how many GPUs of which type."""
    with connect_as(context, AllocationClient) as client:
        show(client.list_quotas(), QUOTA_COLUMNS, as_json=as_json, empty="no quota; redoubt quota set PROJECT TYPE …")
