"""redoubt report: who could do what, who did, and the evidence."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.session import profile_of, to_link
from controlplane.client.reports import SLOW_S, ReportsClient, write_evidence
from controlplane.contracts import reports as shapes
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Reports for an auditor, with evidence that is checked offline.")

USUAL = timedelta(days=30)
Out = Annotated[Path | None, typer.Option(help="The file to write; its evidence goes to FILE.evidence/.")]


@app.callback()
def _topic() -> None:
    """Keep `access` a word of its own: more reports follow."""


@app.command()
def access(
    context: typer.Context,
    *,
    principal: Annotated[str | None, typer.Option(help="One principal, by name or id.")] = None,
    thing: Annotated[str | None, typer.Option("--object", help="One object: endpoint/chat, node/gpu1, …")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every principal.")] = False,
    began: Annotated[str, typer.Option("--from", help="A day or a time (UTC); 30 days before --to.")] = "",
    ended: Annotated[str, typer.Option("--to", help="A day or a time (UTC), itself not included; now.")] = "",
    form: Annotated[str, typer.Option("--format", help="json, csv, html or pdf.")] = "json",
    out: Out = None,
    approval: Annotated[str, typer.Option(help="For who is no auditor: the approval of exactly this export.")] = "",
    as_json: Json = False,
) -> None:
    """Say who held which role, who gave it, what was done with it, and what to look at first.

    An auditor reads it; others export it with an approval of a second person. Both are on record.
    """
    ask = _ask(principal, thing, every, _period(began, ended))
    with ReportsClient(to_link(profile_of(context)), timeout_s=SLOW_S) as client:
        if approval:
            export = shapes.ExportReport(**ask.model_dump(), format=_form(form), approval=approval)
            made = client.export_access_report(export)
        else:
            made = client.read_access_report(ask, _form(form))
    _keep(made, out, as_json=as_json)


def _ask(principal: str | None, thing: str | None, every: bool, period: tuple[datetime, datetime]) -> shapes.AskReport:
    if sum((principal is not None, thing is not None, every)) != 1:
        raise BadInput("of whom or what is not said, or said twice", remedy="give one of --principal, --object, --all")
    return shapes.AskReport(principal=principal, object=thing, began_at=period[0], ended_at=period[1])


def _period(began: str, ended: str) -> tuple[datetime, datetime]:
    last = _time(ended) if ended else SystemClock().now()
    return (_time(began) if began else last - USUAL), last


def _time(text: str) -> datetime:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text} is no time", remedy="write a day (2026-04-01) or a time (2026-04-01T12:00Z)") from None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _form(text: str) -> shapes.Format:
    if text not in get_args(shapes.Format):
        raise BadInput(f"{text} is no form of a report", remedy=f"choose one of {', '.join(get_args(shapes.Format))}")
    return cast("shapes.Format", text)  # it is one of them


def _keep(made: shapes.ReportFile, out: Path | None, *, as_json: bool) -> None:
    """Write the file and its evidence, or print what a terminal can show."""
    content = b64decode(made.content)
    if out is None and made.format == "pdf":
        raise BadInput("a PDF is no text", remedy="say where to write it: --out report.pdf")
    if out is None:
        say(content.decode())
        return
    out.write_bytes(content)
    folder = out.with_name(f"{out.name}.evidence")
    proven = write_evidence(folder, made.report)
    if as_json:
        written = {"file": str(out), "sha256": made.sha256, "evidence": str(folder), "proven_events": proven}
        show_json(written)
        return
    say(f"{out}: sha256 {made.sha256}")
    say(f"{folder}: {proven} events with their proofs; check one anywhere with Python alone:")
    say(f"  redoubt-verify {folder}/EVENT.tlog-proof --event {folder}/EVENT.json --key KEY")
    for text in made.report.not_covered:
        say(f"  not covered: {text}")
