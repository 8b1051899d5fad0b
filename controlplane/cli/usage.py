"""redoubt usage: GPU time as the scheduler accounts for it, and tokens as the gateways tell of them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, get_args

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.scheduler import SchedulerClient
from controlplane.contracts.scheduler import RequestsBy, RequestsUsage, Usage
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
GPU_WORDS = ("project", "type", "node", "job")
TIME_WORDS = ("day", "hour")  # as many as are kept
MOST_ROWS = 50
TOKEN_WORDS = get_args(RequestsBy)
FORGOTTEN = {
    "run": "requests are kept one by one for 90 days: of runs nothing is known before",
    "hour": "hours are kept for 400 days: whole days are counted before",
}
Since = Annotated[str, typer.Option(help="A day or a time (UTC), or how long ago: 30d, 12h.")]


def usage(
    context: typer.Context,
    *,
    project: Annotated[str, typer.Option(help="One project with its teams; all that you may see.")] = "",
    since: Since = "30d",
    until: Annotated[str, typer.Option(help="A day or a time (UTC), itself not included; now.")] = "",
    by: Annotated[
        str,
        typer.Option(
            help="Of GPUs: project, type, node or job. Of tokens: team, workflow, agent, run, model, endpoint, key, "
            "zone, day or hour, and project with --tokens."
        ),
    ] = "project",
    tokens: Annotated[bool, typer.Option("--tokens", help="Tokens and requests, not GPU-seconds.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"Of tokens, so many rows; {MOST_ROWS}, and every day or hour.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of tokens, every row.")] = False,
    as_json: Json = False,
) -> None:
    """Show what was used, most first: GPU-seconds, or tokens. What still runs on GPUs counts up to now."""
    if by not in {*GPU_WORDS, *TOKEN_WORDS}:
        known = ", ".join(dict.fromkeys((*GPU_WORDS, *TOKEN_WORDS)))
        raise BadInput(f"usage is not grouped by {by!r}", remedy=f"give --by one of {known}")
    asked = {"project": project, "since": _time(since).isoformat(), "by": by}
    if until:
        asked["until"] = _time(until).isoformat()
    of_tokens = tokens or by not in GPU_WORDS
    if not of_tokens and (limit or everything):
        raise BadInput(f"GPU-seconds by {by} are told whole", remedy="leave --limit and --all out, or add --tokens")
    whole = everything or (limit is None and by in TIME_WORDS)
    with connect_as(context, SchedulerClient) as client:
        if of_tokens:
            found = client.report_requests(None if whole else limit or MOST_ROWS, **asked)
            _show_tokens(found, _time(since), as_json=as_json)
        else:
            _show_gpus(client.report_usage(**asked), as_json=as_json)


def _show_gpus(found: Usage, *, as_json: bool) -> None:
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    columns = [(found.by.upper(), "key"), ("GPU SECONDS", "gpu_seconds"), ("STARTS", "starts"), ("RUNNING", "running")]
    show(found.rows, columns, as_json=False, empty="no GPU was used in that time")
    known = f"{found.known_until:%Y-%m-%d %H:%M:%S} UTC" if found.known_until else "never; look at the reconciler"
    say(f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC; accounting last asked: {known}")


def _show_tokens(found: RequestsUsage, asked_since: datetime, *, as_json: bool) -> None:
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    columns = [
        (found.by.upper(), "key"),
        ("TOKENS IN", "tokens_in"),
        ("CACHED", "tokens_cached"),
        ("TOKENS OUT", "tokens_out"),
        ("CALLS", "calls"),
        ("FAILED", "failures"),
        ("RETRIES", "retries"),
        ("GPU SECONDS", "gpu_seconds"),
        ("FIRST TOKEN S", "first_token_s"),
    ]
    show(found.rows, columns, as_json=False, empty="no request ended in that time")
    if found.more:
        say(f"and {found.more} more by {found.by}; see them with --limit {len(found.rows) + found.more} or --all")
    untold = sum(row.untold for row in found.rows)
    if untold:
        say(f"of {untold} requests the replica told no tokens; what was sent of their streams is counted instead")
    if asked_since < found.known_since:
        say(f"{FORGOTTEN['run' if found.by == 'run' else 'hour']} {found.known_since:%Y-%m-%d %H:%M} UTC")
    say(f"hours that began from {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC")


def _time(text: str) -> datetime:
    """Read a time, or how long ago it was."""
    try:
        if text[:-1].isdecimal() and text[-1] in UNITS:
            return SystemClock().now() - timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])
        read = datetime.fromisoformat(text)
    except (OverflowError, ValueError):
        raise BadInput(f"{text!r} is no time", remedy="write it like 2026-11-27, 2026-11-27T20:00 or 12h") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
