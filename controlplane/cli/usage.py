"""redoubt usage: GPU time by project, type, node or run, as the scheduler accounts for it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from controlplane.cli.screen import Json, say, show, show_json
from controlplane.cli.session import connect_as
from controlplane.client.scheduler import SchedulerClient
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
WORDS = ("project", "type", "node", "job")
Since = Annotated[str, typer.Option(help="A day or a time (UTC), or how long ago: 30d, 12h.")]


def usage(
    context: typer.Context,
    *,
    project: Annotated[str, typer.Option(help="One project with its teams; all that you may see.")] = "",
    since: Since = "30d",
    until: Annotated[str, typer.Option(help="A day or a time (UTC), itself not included; now.")] = "",
    by: Annotated[str, typer.Option(help="project, type, node or job.")] = "project",
    as_json: Json = False,
) -> None:
    """Show GPU-seconds used, most first. What still runs counts up to now."""
    if by not in WORDS:
        raise BadInput(f"usage is not grouped by {by!r}", remedy=f"give --by {' | '.join(WORDS)}")
    asked = {"project": project, "since": _time(since).isoformat(), "by": by}
    if until:
        asked["until"] = _time(until).isoformat()
    with connect_as(context, SchedulerClient) as client:
        found = client.report_usage(**asked)
    if as_json:
        show_json(found.model_dump(mode="json"))
        return
    columns = [(by.upper(), "key"), ("GPU SECONDS", "gpu_seconds"), ("STARTS", "starts"), ("RUNNING", "running")]
    show(found.rows, columns, as_json=False, empty="no GPU was used in that time")
    known = f"{found.known_until:%Y-%m-%d %H:%M:%S} UTC" if found.known_until else "never; look at the reconciler"
    say(f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC; accounting last asked: {known}")


def _time(text: str) -> datetime:
    """Read a time, or how long ago it was."""
    if text[:-1].isdecimal() and text[-1] in UNITS:
        return SystemClock().now() - timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time", remedy="write it like 2026-11-27, 2026-11-27T20:00 or 12h") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
