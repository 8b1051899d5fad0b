"""redoubt site: from `site.yml` to nodes that are what it says. One line a verb; each group has a file of its own."""

import typer

from controlplane.cli import site_apply, site_plan, site_preflight, site_prove, site_runs, site_spec

app = typer.Typer(no_args_is_help=True, help="The site spec, and nodes that are what it says.")
app.command()(site_spec.check)
app.command()(site_spec.schema)
app.command("render")(site_spec.render_inventory)
app.command()(site_preflight.preflight)
app.command()(site_plan.plan)
app.command()(site_apply.apply)
app.command()(site_runs.runs)
app.command()(site_prove.prove)
