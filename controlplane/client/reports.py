"""The typed client of the access report, and its evidence as a folder that `redoubt-verify` checks."""

from collections.abc import Iterator
from pathlib import Path

from controlplane.client.admin import AdminClient
from controlplane.contracts import reports as shapes

SLOW_S = 120  # a PDF of a large site takes a while


class ReportsClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def read_access_report(self, ask: shapes.AskReport, form: shapes.Format) -> shapes.ReportFile:
        of = {"principal": ask.principal, "object": ask.object}
        chosen = {name: value for name, value in of.items() if value is not None}
        period = {"from": ask.began_at.isoformat(), "to": ask.ended_at.isoformat()}
        return self.read("/access-report", shapes.ReportFile, format=form, **chosen, **period)

    def export_access_report(self, ask: shapes.ExportReport) -> shapes.ReportFile:
        return self.send("POST", ("access-report-exports",), ask, shapes.ReportFile)


def lines_of(report: shapes.AccessReport) -> Iterator[shapes.Line]:
    """Yield every line of a report, each event once."""
    seen: set[str] = set()
    groups = [
        lines for person in report.principals for lines in (person.privileged, person.denials, person.break_glass)
    ]
    for line in (line for lines in (*groups, *(thing.events for thing in report.objects)) for line in lines):
        if line.event_id not in seen:
            seen.add(line.event_id)
            yield line


def write_evidence(folder: Path, report: shapes.AccessReport) -> int:
    """Write each proven event as the log's bytes and its proof; return how many. An older folder is written over."""
    folder.mkdir(parents=True, exist_ok=True)
    proven = [line for line in lines_of(report) if line.proof and line.entry]
    for line in proven:
        (folder / f"{line.event_id}.json").write_bytes(line.entry.encode())
        (folder / f"{line.event_id}.tlog-proof").write_bytes(line.proof.encode())
    if report.checkpoint is not None:
        (folder / "checkpoint.txt").write_bytes(report.checkpoint.note.encode())
    return len(proven)
