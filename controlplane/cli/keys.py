"""redoubt key: what applications show to the gateway."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect
from controlplane.contracts import keys as contracts
from controlplane.contracts.levels import Classification
from controlplane.contracts.snapshot import Priority

keys = typer.Typer(no_args_is_help=True, help="Inference keys: for applications.")

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Its id, from `redoubt key list`.")]


@keys.command("create")
def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    project: Annotated[str, typer.Option(help="The tenant that owns it; left out: your own.")] = "",
    endpoint: Annotated[list[str] | None, typer.Option(help="Limit it to this endpoint; may be repeated.")] = None,
    zone: Annotated[list[str] | None, typer.Option(help="Limit it to this zone; may be repeated.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="What it may be used for; may be repeated.")] = None,
    classification: Annotated[Classification, typer.Option(help="The highest that a prompt may have.")] = "internal",
    source: Annotated[list[str] | None, typer.Option(help="Limit it to this network; may be repeated.")] = None,
    jurisdiction: Annotated[list[str] | None, typer.Option(help="Where its data may be (ISO 3166).")] = None,
    priority: Annotated[Priority, typer.Option(help="No request of it is served before this class.")] = "interactive",
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it lives.")] = 90,
    *,
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown this once."""
    ask = contracts.CreateKey(
        name=name,
        project=project,
        endpoints=tuple(endpoint or ()),
        zones=tuple(zone or ()),
        purposes=tuple(purpose or ("general",)),
        classification=classification,
        sources=tuple(source or ()),
        jurisdictions=tuple(jurisdiction or ()),
        priority=priority,
        days=days,
    )
    with connect(context) as client:
        _show_secret(client.create_key(ask), as_json=as_json)


@keys.command("list")
def list_keys(context: typer.Context, *, as_json: Json = False) -> None:
    """List keys; secrets are never shown again."""
    columns = [
        ("KEY", "id"), ("NAME", "name"), ("PROJECT", "project"), ("ENDPOINTS", "endpoints"), ("PURPOSES", "purposes"),
        ("UP TO", "classification"), ("EXPIRES", "expires_at"), ("LAST USED", "last_used_at"),
        ("REVOKED", "revoked_at"),
    ]  # fmt: skip
    with connect(context) as client:
        show(client.list_keys(), columns, as_json=as_json, empty="no keys; make one: redoubt key create NAME")


@keys.command("show")
def show_key(context: typer.Context, key_id: KeyId, *, as_json: Json = False) -> None:
    """Show what a key is bound to, and its secrets' lives."""
    with connect(context) as client:
        key = client.get_key(key_id)
    if as_json:
        show_json(key.model_dump(mode="json"))
        return
    for label, words in _bounds(key):
        say(f"{label:15} {words}")
    columns = [("SECRET", "id"), ("MADE", "created_at"), ("EXPIRES", "expires_at"), ("ENDED", "ended_at"),
               ("LAST USED", "last_used_at")]  # fmt: skip
    show(key.secrets, columns, as_json=False, empty="")


@keys.command("rotate")
def rotate_key(
    context: typer.Context,
    key_id: KeyId,
    days: Annotated[int | None, typer.Option(min=1, max=365, help="How long the new secret lives.")] = None,
    old_ends_at: Annotated[datetime | None, typer.Option(help="When the old secret ends, UTC.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Give a key its second secret; the old one goes on until it ends or is revoked."""
    ends_at = old_ends_at.replace(tzinfo=UTC) if old_ends_at else None
    with connect(context) as client:
        _show_secret(client.rotate_key(key_id, contracts.RotateKey(days=days, old_ends_at=ends_at)), as_json=as_json)


@keys.command("revoke-secret")
def revoke_secret(
    context: typer.Context,
    key_id: KeyId,
    secret_id: Annotated[str, typer.Argument(metavar="SECRET", help="Its id, from `redoubt key show`.")],
    *,
    as_json: Json = False,
) -> None:
    """End one secret of a key; the gateway follows within a second."""
    with connect(context) as client:
        key = client.revoke_secret(key_id, secret_id)
    show_json(key.model_dump(mode="json")) if as_json else say(f"{secret_id} of {key.id} ({key.name}) is revoked")


@keys.command("revoke")
def revoke_key(context: typer.Context, key_id: KeyId, *, as_json: Json = False) -> None:
    """End a key; the gateway follows within a second."""
    with connect(context) as client:
        key = client.revoke_key(key_id)
    show_json(key.model_dump(mode="json")) if as_json else say(f"{key.id} ({key.name}) is revoked")


def _show_secret(made: contracts.NewSecret, *, as_json: bool) -> None:
    if as_json:
        show_json(made.model_dump(mode="json"))
    else:
        say(
            f"{made.secret}\n(shown this once; {made.secret_id} of {made.key.id}, until {made.key.expires_at:%Y-%m-%d})"
        )


def _bounds(key: contracts.Key) -> list[tuple[str, str]]:
    return [
        ("key", f"{key.id} ({key.name})"),
        ("project", key.project or "the site itself"),
        ("endpoints", ", ".join(key.endpoints) or "all"),
        ("zones", ", ".join(key.zones) or "all"),
        ("purposes", ", ".join(key.purposes)),
        ("classification", f"up to {key.classification}"),
        ("sources", ", ".join(key.sources) or "any address"),
        ("jurisdictions", ", ".join(key.jurisdictions) or "those of its zones"),
        ("priority", key.priority),
        ("revoked", f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "no"),
    ]
