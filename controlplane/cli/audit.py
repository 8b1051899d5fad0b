"""redoubt audit: what happened, the proof of it, and what may leave the log."""

import json
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.audit import AuditClient
from controlplane.client.audit_export import write_export
from controlplane.contracts import audit as shapes
from controlplane.kit.errors import BadInput
from controlplane.verifier import redoubt_verify

app = typer.Typer(no_args_is_help=True, help="What happened, who did it, and the proof.")

EVENT_COLUMNS = [
    ("EVENT", "event_id"), ("AT", "at"), ("ACTOR", "actor"), ("WHAT", "event"), ("OBJECT", "resource"),
]  # fmt: skip
WITNESS_COLUMNS = [("NODE", "node"), ("SIGNED", "size"), ("AT", "at"), ("FRESH", "is_fresh"), ("REFUSES", "refusal")]
HOLD_COLUMNS = [("HOLD", "id"), ("WHY", "reason"), ("PLACED BY", "placed_by"), ("AT", "placed_at")]

EventId = Annotated[str, typer.Argument(metavar="EVENT", help="An event's id, evt_….")]
Approval = Annotated[str, typer.Option(help="The approval of two people: redoubt approval propose.")]


@app.command("list")
def list_events(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    *,
    as_json: Json = False,
) -> None:
    """List events, newest first."""
    with _connect(context) as client:
        newest = [event for event, _ in zip(client.list_events(), range(limit), strict=False)]
    if not as_json:  # what an attacker wrote into a name must not move the cursor of who reads it
        newest = [e.model_copy(update={k: _visible(str(getattr(e, k))) for k in ("actor", "resource")}) for e in newest]
    show(newest, EVENT_COLUMNS, as_json=as_json, empty="nothing happened yet")


@app.command("show")
def show_event(context: typer.Context, event_id: EventId, *, as_json: Json = False) -> None:
    """Show one event in full; reading what it says of a person is recorded."""
    with _connect(context) as client:
        found = client.get_event(event_id)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    for field, value in json.loads(found.entry).items():
        say(f"{field:<10} {_visible(value if isinstance(value, str) else json.dumps(value)) or '-'}")
    say(f"{'leaf':<10} {'not sealed yet' if found.leaf_index is None else found.leaf_index}")
    say(f"{'person':<10} {_visible(found.personal) or '-'}")


@app.command()
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that does not exist yet.")],
    proof: Annotated[list[str] | None, typer.Option(help="Add the proof of this event; may be repeated.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Write the whole log as a folder that redoubt-verify checks anywhere."""
    if folder.exists():
        raise BadInput(f"{folder} exists", remedy="name a folder that does not")
    with _connect(context) as client:
        checkpoints = list(client.list_checkpoints())
        size = write_export(
            folder,
            checkpoints,
            client.list_entries(),
            witness_keys=[witness.verifier_key for witness in client.list_witnesses()],
            proofs=[client.get_proof(event_id) for event_id in proof or ()],
        )
    done = {"folder": str(folder), "entries": size, "checkpoints": len(checkpoints)}
    show_json(done) if as_json else say(f"{size} entries are in {folder}; next: redoubt-verify {folder}")


@app.command("proof")
def show_proof(
    context: typer.Context,
    event_id: EventId,
    out: Annotated[Path | None, typer.Option(help="Write EVENT.tlog-proof and EVENT.json into this folder.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Prove that an event is in the log (C2SP tlog-proof)."""
    with _connect(context) as client:
        found, entry = client.get_proof(event_id), client.get_event(event_id).entry
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{event_id}.tlog-proof").write_text(found.proof)
        (out / f"{event_id}.json").write_text(entry)
        say(f"{out / event_id}.tlog-proof and .json; next: redoubt-verify … --event … --key …")
        return
    show_json(found.model_dump(mode="json")) if as_json else say(found.proof.rstrip("\n"))


@app.command()
def checkpoint(
    context: typer.Context,
    size: Annotated[int | None, typer.Option(min=1, help="Of so many events; left out: the newest.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show the log's signed state. Keep it: redoubt-verify --seen holds a later log against it."""
    with _connect(context) as client:
        found = client.get_checkpoint(size)
    show_json(found.model_dump(mode="json")) if as_json else say(found.note.rstrip("\n"))


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export, or one .tlog-proof.")],
    key: Annotated[list[str] | None, typer.Option(help="A trusted verifier key, or a file of them.")] = None,
    seen: Annotated[list[Path] | None, typer.Option(help="A checkpoint that was kept earlier.")] = None,
    witnesses: Annotated[int, typer.Option(min=0, help="How many keys of --key must have signed the newest.")] = 0,
    event: Annotated[Path | None, typer.Option(help="The entry that a proof is about.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Verify an export without asking the site; the same as redoubt-verify, with its exit codes."""
    words = [str(path), "--witnesses", str(witnesses)]
    words += [word for value in key or () for word in ("--key", value)]
    words += [word for value in seen or () for word in ("--seen", str(value))]
    words += ["--event", str(event)] if event is not None else []
    raise typer.Exit(redoubt_verify.main([*words, "--json"] if as_json else words))


@app.command()
def witnesses(context: typer.Context, *, as_json: Json = False) -> None:
    """Show how many of the site's nodes vouch for the log, and what each last said."""
    with _connect(context) as client:
        found = client.get_witnesses()
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    say(f"{found.fresh} of {found.declared} nodes vouch for the audit log ({found.needed} must)")
    show(found.nodes, WITNESS_COLUMNS, as_json=False, empty="no node is declared")


@app.command()
def purge(
    context: typer.Context,
    approval: Approval,
    months: Annotated[int, typer.Option(min=6, max=1200, help="What is older goes.")] = 13,
    *,
    as_json: Json = False,
) -> None:
    """Drop the bodies of old events; their hashes stay. Needs an approval of audit.purge for months=MONTHS."""
    with _connect(context) as client:
        done = client.purge(shapes.Purge(months=months, approval=approval))
    show_json(done.model_dump(mode="json")) if as_json else say(
        f"{done.bodies} bodies below leaf {done.before_leaf} are gone"
    )


@app.command()
def hold(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Place a hold, for this reason.")] = "",
    release: Annotated[str, typer.Option(metavar="HOLD", help="End this one; needs --approval.")] = "",
    approval: Approval = "",
    *,
    as_json: Json = False,
) -> None:
    """List legal holds, place one (--reason) or end one (--release): while one is open nothing leaves the log."""
    with _connect(context) as client:
        if reason:
            client.place_hold(shapes.PlaceHold(reason=reason))
        if release:
            client.release_hold(release, shapes.Release(approval=approval))
        show(client.list_holds(), HOLD_COLUMNS, as_json=as_json, empty="no hold is open")


@app.command()
def erase(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="PRINCIPAL", help="Whose personal data, by id.")],
    approval: Approval,
    *,
    as_json: Json = False,
) -> None:
    """Make a person's side records unreadable for ever. Needs an approval of audit.erase for subject=PRINCIPAL."""
    with _connect(context) as client:
        done = client.erase(shapes.Erase(subject=subject, approval=approval))
    show_json(done.model_dump(mode="json")) if as_json else say(
        f"{done.records} side records of {subject} are unreadable now"
    )


def _connect(context: typer.Context) -> AuditClient:
    return connect_as(context, AuditClient)


def _visible(text: str) -> str:
    """Return a text in which what a terminal would obey, or what reorders a line, is spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
