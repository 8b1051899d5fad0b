"""redoubt job: batch, training and interactive work under a project's share."""

import sys
import time
from typing import Annotated

import typer

from controlplane.cli.job_words import print_part, read_checkpoint, read_duration_s, read_environment, read_size_bytes
from controlplane.cli.screen import Json, note, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.jobs import JobsClient
from controlplane.contracts import jobs as contracts

app = typer.Typer(no_args_is_help=True, help="Training, batch and interactive work on a project's share of the GPUs.")

OVER = ("done", "failed", "stopped")
LOOK_EVERY_S = 1.0
COLUMNS = [
    ("JOB", "id"), ("NAME", "name"), ("STATE", "state"), ("GPUS", "gpus"), ("TYPE", "gpu_type"), ("NODE", "node"),
    ("SHARE", "share"), ("WHY", "reason"),
]  # fmt: skip
RUN_COLUMNS = [
    ("RUN", "id"), ("STATE", "state"), ("NODE", "node"), ("GPUS", "gpus"), ("RESTARTS", "restarts"),
    ("STATUS", "status"), ("SINCE", "started_at"), ("WHY", "reason"),
]  # fmt: skip

JobId = Annotated[str, typer.Argument(metavar="JOB", help="A job's id, as `redoubt job list` shows it.")]
Index = Annotated[int | None, typer.Option(help="An element of an array.", min=0)]


@app.command("run")
def run_job(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command; no shell reads it.")],
    project: Annotated[str, typer.Option(help="The project or team whose share it uses.")],
    pool: Annotated[str, typer.Option(help="training, interactive or inference (batch).")] = "training",
    gpus: Annotated[int, typer.Option(help="Whole GPUs on one node; 0 runs on the CPU.", min=0)] = 0,
    gpu_type: Annotated[str, typer.Option("--type", help='Such as h100; "" takes any one type.')] = "",
    gpu_memory: Annotated[str, typer.Option(help="Needed on each GPU, such as 40G.")] = "0",
    cpus: Annotated[int, typer.Option(help="CPU cores.", min=1)] = 1,
    memory: Annotated[str, typer.Option(help="Memory of the node, such as 64G; 0 is the site's default.")] = "0",
    time_limit: Annotated[str, typer.Option("--time", help="The longest it may run: 90s, 30m, 2h, 3d.")] = "1h",
    array: Annotated[str, typer.Option(help="Run it once for each index: 0-9, or 0-9%2 for two at once.")] = "",
    checkpoint: Annotated[
        str, typer.Option(help="SIGNAL@SECONDS before it is ended or preempted, such as USR1@60.")
    ] = "",
    requeue: Annotated[
        bool | None, typer.Option("--requeue/--no-requeue", help="Start again when preempted; training does by itself.")
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 100, among work of its class.", min=0, max=100)] = 50,
    name: Annotated[str, typer.Option(help="What people call it.")] = "job",
    zone: Annotated[str, typer.Option(help='Where it may run; "" is anywhere that its share may.')] = "",
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the command; may be given again.")] = None,
    token: Annotated[str | None, typer.Option(help="The same token submits once, however often it is sent.")] = None,
    image: Annotated[str, typer.Option(help="An image of the depot: not yet.", hidden=True)] = "",
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would be, or why not; submit nothing.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit 0 only if all of it is done.")] = False,
    as_json: Json = False,
) -> None:
    """Run a command. Interactive work is a command too: there is no shell over the network here."""
    ask = contracts.RunJob(
        share=project,
        pool=pool,  # type: ignore[arg-type]  # checked by the contract
        command=tuple(command),
        environment=read_environment(env or []),
        name=name,
        gpus=gpus,
        gpu_type=gpu_type,
        gpu_memory_bytes=read_size_bytes(gpu_memory),
        cpus=cpus,
        memory_mb=-(-read_size_bytes(memory) // 1024**2),
        zone=zone,
        time_limit_s=read_duration_s(time_limit),
        array=array,
        checkpoint=read_checkpoint(checkpoint),
        requeues=requeue,
        priority=priority,
        image=image,
        token=token,
    )
    with connect_as(context, JobsClient) as client:
        if dry_run:
            _show_plan(client.plan(ask), as_json=as_json)
            return
        made = client.run(ask)
        if wait:
            note(f"{made.id} is submitted; redoubt job logs {made.id} shows what it writes")
            made = _wait(client, made)
    show_json(made.model_dump(mode="json")) if as_json else _say_submitted(made)
    if wait and made.state != "done":
        raise typer.Exit(1)


@app.command("list")
def list_jobs(
    context: typer.Context,
    project: Annotated[str, typer.Option(help="Of this project alone.")] = "",
    *,
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, the newest first, and why any waits."""
    with connect_as(context, JobsClient) as client:
        found = client.list_jobs(project=project, every=every)
        show(found, COLUMNS, as_json=as_json, empty="no jobs; redoubt job run --project P -- COMMAND")


@app.command("show")
def show_job(context: typer.Context, job: JobId, *, as_json: Json = False) -> None:
    """Show a job and its runs."""
    with connect_as(context, JobsClient) as client:
        found = client.get(job)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    show([found], COLUMNS[:-1], as_json=False, empty="")
    show(found.elements, RUN_COLUMNS, as_json=False, empty="no runs")
    if found.runs > len(found.elements):
        say(f"and {found.runs - len(found.elements)} more runs")
    if found.remedy:
        say(f"next: {found.remedy}")


@app.command("explain")
def explain_job(context: typer.Context, job: JobId, *, as_json: Json = False) -> None:
    """Say why a job is as it is, and what would change that."""
    with connect_as(context, JobsClient) as client:
        found = client.explain(job)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    say(f"{job} is {found.state}: {found.reason or 'nothing stands in its way'}")
    for reason in found.details:
        say(f"  - {reason}")
    if found.remedy:
        say(f"  next: {found.remedy}")


@app.command("stop")
def stop_job(context: typer.Context, job: JobId, index: Index = None, *, as_json: Json = False) -> None:
    """Ask a job, or one element of it, to end; it gets time for its checkpoint."""
    with connect_as(context, JobsClient) as client:
        found = client.stop(job, index)
    show_json(found.model_dump(mode="json")) if as_json else say(f"{found.id} is {found.state}")


@app.command("logs")
def show_logs(
    context: typer.Context,
    job: JobId,
    index: Index = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it is over.")] = False,
    as_json: Json = False,
) -> None:
    """Print what a run wrote: its output on ours, its errors on ours."""
    cursor = ""
    with connect_as(context, JobsClient) as client:
        while True:
            log = client.log(job, index, cursor)
            for part in log.parts:
                _print_json(part) if as_json else print_part(part)
            if not log.parts and (log.is_over or not follow):
                return
            cursor = log.cursor
            if not log.parts:
                time.sleep(LOOK_EVERY_S)


def _wait(client: JobsClient, job: contracts.Job) -> contracts.Job:
    """Return the job once it is over, telling each change of its state on the way."""
    told = ("", "")
    while job.state not in OVER:
        if (job.state, job.reason) != told:
            told = (job.state, job.reason)
            note(": ".join(word for word in (job.state, job.reason) if word))
        time.sleep(LOOK_EVERY_S)
        job = client.get(job.id)
    return job


def _say_submitted(job: contracts.Job) -> None:
    runs = f" as {job.runs} runs" if job.runs > 1 else ""
    say(f"{job.id} is {job.state}{runs}{f': {job.reason}' if job.reason else ''}")
    if job.state == "failed" and job.remedy:
        say(f"next: {job.remedy}")


def _show_plan(plan: contracts.JobPlan, *, as_json: bool) -> None:
    if as_json:
        show_json(plan.model_dump(mode="json"))
        return
    times = f"{plan.runs} runs" if plan.runs > 1 else "one run"
    say(f"would be submitted: {times} on account {plan.account}, class {plan.qos}, as {plan.user}")
    if plan.avoid_nodes:
        say(f"  not on {', '.join(plan.avoid_nodes)}")
    for line in plan.notes:
        say(f"  note: {line}")


def _print_json(part: contracts.LogPart) -> None:
    sys.stdout.write(part.model_dump_json() + "\n")
