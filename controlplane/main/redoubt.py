"""The `redoubt` command: every noun in one place, every error one line and an exit code by its kind."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from controlplane.cli import (
    allocation,
    approval,
    audit,
    budgets,
    bundle,
    clients,
    enrolment,
    fleet,
    gpus,
    incidents,
    job,
    keys,
    machines,
    people,
    policy,
    pools,
    practice,
    report,
    scheduler,
    serving,
    shares,
    sign_in,
    site,
    usage,
    verify,
)
from controlplane.cli.screen import say, show_error
from controlplane.cli.session import Profile, Session, load
from controlplane.kit.errors import BadInput, RedoubtError
from controlplane.main.box_command import box


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the shape of an option's callback
    if wanted:
        say(f"redoubt {metadata.version('redoubt')}")
        raise typer.Exit


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(enrolment.enrol)
app.command()(sign_in.sign_in)
app.command()(sign_in.sign_out)
app.command()(sign_in.step_up)
app.command()(sign_in.whoami)
app.command()(fleet.fleet)
app.command()(serving.ask)
app.command()(usage.usage)
app.command()(verify.verify)
app.command()(box)
app.add_typer(site.app, name="site")
app.add_typer(bundle.app, name="bundle")
machines.add_to(fleet.nodes)
app.add_typer(fleet.nodes, name="node")
app.add_typer(gpus.gpus, name="gpu")
app.add_typer(allocation.leases, name="lease")
app.add_typer(allocation.allocation, name="allocation")
for name, noun in shares.make_nouns().items():
    app.add_typer(noun, name=name)
app.add_typer(shares.quotas, name="quota")
app.add_typer(budgets.budgets, name="budget")
app.add_typer(pools.pools, name="pool")
app.add_typer(pools.reservations, name="reservation")
app.add_typer(serving.models, name="model")
app.add_typer(serving.endpoints, name="endpoint")
app.add_typer(job.app, name="job")
app.add_typer(incidents.incidents, name="incident")
app.add_typer(keys.keys, name="key")
app.add_typer(people.users, name="user")
app.add_typer(people.roles, name="role")
app.add_typer(sign_in.sessions, name="session")
app.add_typer(sign_in.break_glass, name="break-glass")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.policies, name="policy")
app.add_typer(approval.approvals, name="approval")
app.add_typer(scheduler.app, name="scheduler")
app.add_typer(report.app, name="report")
app.add_typer(clients.clients, name="client")
app.add_typer(clients.services, name="service")
app.add_typer(clients.devices, name="device")
app.add_typer(clients.signing_keys, name="signing-key")
app.add_typer(practice.app, name="practice")


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Install and run a sovereign AI platform inside an air-gapped boundary."""
    del version


def main() -> None:
    """Run the command; exit 0 ok, 1 failed, 2 usage, 3 refused. Typer itself answers usage errors."""
    try:
        app(obj=_session())
    except RedoubtError as error:
        show_error(error)
        raise SystemExit(error.exit_code) from None
    except ValidationError as error:
        wrong = _wrong_words(error)
        show_error(wrong)
        raise SystemExit(wrong.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("redoubt: stopped\n")
        raise SystemExit(1) from None


def _wrong_words(error: ValidationError) -> BadInput:
    """Say which word of the command line a contract refuses."""
    reasons = tuple(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']})" for e in error.errors())
    return BadInput(reasons[0], remedy="correct it; --help of the command says what it takes", reasons=reasons)


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
