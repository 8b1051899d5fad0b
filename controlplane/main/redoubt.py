"""The `redoubt` command: every noun in one place, every error one line and an exit code by its kind."""

import os
import sys
from pathlib import Path

import click
import typer

from controlplane.cli import access, bundle, fleet, practice, serving, site
from controlplane.cli.screen import show_error
from controlplane.cli.session import Profile, Session, load
from controlplane.kit.errors import RedoubtError
from controlplane.main.box import box

app = typer.Typer(no_args_is_help=True, help="Install and run a sovereign AI platform inside an air-gapped boundary.")
app.command()(access.enrol)
app.command()(access.whoami)
app.command()(fleet.fleet)
app.command()(serving.ask)
app.command()(box)
app.add_typer(site.app, name="site")
app.add_typer(bundle.app, name="bundle")
app.add_typer(fleet.nodes, name="node")
app.add_typer(fleet.gpus, name="gpu")
app.add_typer(fleet.leases, name="lease")
app.add_typer(serving.models, name="model")
app.add_typer(serving.endpoints, name="endpoint")
app.add_typer(access.keys, name="key")
app.add_typer(access.events, name="audit")
app.add_typer(practice.app, name="practice")


def main() -> None:
    """Run the command; exit 0 ok, 1 failed, 2 usage, 3 refused."""
    try:
        app(obj=_session(), standalone_mode=False)
    except RedoubtError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("redoubt: stopped\n")
        raise SystemExit(1) from None
    except click.exceptions.Exit as done:
        raise SystemExit(done.exit_code) from None


def _session() -> Session:
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    path = Path(os.environ.get("REDOUBT_PROFILE") or f"{home}/redoubt/profile.json")
    url, token = os.environ.get("REDOUBT_URL"), os.environ.get("REDOUBT_TOKEN")
    if url and token:
        given = Profile(url, token, os.environ.get("REDOUBT_CA", ""), os.environ.get("REDOUBT_GATEWAY_URL", ""))
        return Session(path, given)
    return Session(path, load(path))


if __name__ == "__main__":
    main()
