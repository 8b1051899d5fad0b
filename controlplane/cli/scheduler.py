"""redoubt scheduler: what Slurm knows of shares, limits and reservations, and who else changed it."""

import time
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.scheduler import SchedulerClient
from controlplane.contracts import scheduler as shapes
from controlplane.kit.errors import Unavailable

app = typer.Typer(no_args_is_help=True, help="Shares, limits and reservations in the scheduler, and who changed them.")

THING_COLUMNS = [("KIND", "kind"), ("NAME", "name"), ("STATE", "state"), ("WHAT", "what")]
DRIFT_COLUMNS = [("KIND", "kind"), ("NAME", "name"), ("WHAT", "what"), ("BY", "hands")]
TakeOver = Annotated[bool, typer.Option("--take-over", help="End the drift of now, too: what others changed is lost.")]


@app.command("show")
def show_scheduler(context: typer.Context, *, as_json: Json = False) -> None:
    """Show everything that the scheduler has or ought to have, and how it stands."""
    view = _view(context)
    if as_json:
        show_json(view.model_dump(mode="json"))
        return
    show(view.things, THING_COLUMNS, as_json=False, empty="the scheduler has nothing and nothing is wanted of it")
    _say_how_fresh(view)


@app.command("drift")
def show_drift(context: typer.Context, *, as_json: Json = False) -> None:
    """Show what another hand changed. It stays so until somebody takes it over or undoes it."""
    view = _view(context)
    if as_json:
        show_json({**view.model_dump(mode="json", include={"read_at", "error", "drift", "failures"})})
        return
    show(view.drift, DRIFT_COLUMNS, as_json=False, empty="nothing of ours was changed by another hand")
    _say_how_fresh(view)
    if view.drift:
        say("next: undo it in Slurm, or redoubt scheduler apply --take-over --dry-run")


@app.command("apply")
def apply(
    context: typer.Context,
    *,
    take_over: TakeOver = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be changed; change nothing.")] = False,
    wait_s: Annotated[int, typer.Option("--wait", help="How many seconds to wait for it; 0 asks and returns.")] = 60,
    as_json: Json = False,
) -> None:
    """Bring the scheduler to what is wanted now; the reconciler does it by itself, drift apart."""
    if dry_run:
        view = _view(context, takes_over=take_over)
        if as_json:
            show_json(view.model_dump(mode="json", include={"read_at", "error", "changes", "drift"}))
        else:
            _say_lines(view.changes, "nothing would be changed")
            _say_how_fresh(view)
        return
    with connect_as(context, SchedulerClient) as client:
        done = _wait(client, client.apply(shapes.AskApply(takes_over=take_over)), wait_s)
    if as_json:
        show_json(done.model_dump(mode="json"))
    elif done.done_at is None:
        say(f"asked for as {done.id}; the reconciler does it at its next step")
    else:
        _say_lines(done.changes, "nothing had to be changed")
    if done.failures:
        raise Unavailable(
            f"the scheduler did not take {len(done.failures)} of them",
            remedy="redoubt scheduler drift; the reconciler goes on trying",
            reasons=done.failures,
        )


def _view(context: typer.Context, *, takes_over: bool = False) -> shapes.SchedulerView:
    with connect_as(context, SchedulerClient) as client:
        return client.show_scheduler(takes_over=takes_over)


def _wait(client: SchedulerClient, asked: shapes.Apply, wait_s: int) -> shapes.Apply:
    ends_s = time.monotonic() + wait_s
    while asked.done_at is None and time.monotonic() < ends_s:
        time.sleep(0.5)
        asked = client.get_apply(asked.id)
    return asked


def _say_lines(lines: tuple[str, ...], empty: str) -> None:
    for line in lines or (empty,):
        say(line)


def _say_how_fresh(view: shapes.SchedulerView) -> None:
    for failure in view.failures:
        say(f"not taken: {failure}")
    if view.error:
        say(f"could not be read since: {view.error}")
    read = f"{view.read_at:%Y-%m-%d %H:%M:%S} UTC" if view.read_at else "never: this site has no scheduler, or none yet"
    say(f"read from the scheduler: {read}")
