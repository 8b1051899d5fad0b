"""redoubt site runs: what was applied to a site, when, by whom, and how it ended."""

from pydantic import BaseModel

from controlplane.cli.journal import Journal, Run
from controlplane.cli.screen import Json, show, show_json
from controlplane.cli.site_options import Rendered, SpecFile, rendered_folder


class Row(BaseModel):
    """A run as the table shows it."""

    started: str
    by: str
    outcome: str
    changed: int
    seconds: str
    plan: str
    slowest: str


def runs(spec: SpecFile, rendered: Rendered = None, as_json: Json = False) -> None:
    """List the runs of `redoubt site apply`, newest last."""
    found = Journal(rendered_folder(spec, rendered)).runs()
    if as_json:
        show_json([run.model_dump(mode="json") for run in found])
        return
    columns = [(name, name) for name in Row.model_fields]
    show([_row(run) for run in found], columns, as_json=False, empty="nothing was applied from here yet")


def _row(run: Run) -> Row:
    slow = sorted(run.stages, key=lambda stage: -stage.seconds)[:2]
    failed = [f"{failure.stage} on {failure.host}" for failure in run.failures][:1]
    return Row(
        started=run.started_at.strftime("%Y-%m-%d %H:%M"),
        by=run.by,
        outcome=f"failed: {failed[0]}" if failed else run.outcome,
        changed=run.changed,
        seconds=f"{run.seconds:.0f}",
        plan=run.plan[:12],
        slowest=", ".join(f"{stage.name} {stage.seconds:.0f}" for stage in slow),
    )
