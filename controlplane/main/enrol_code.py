"""Print one single-use enrolment code. For the console of the control-plane node, as the user of redoubt-api.

Before both administrators are enrolled it is the code of the next one. After that nothing here lets anybody in, unless
they are lost: `--lost ROLE --reason WHY` makes a code for a new administrator, and that is on record for good.
"""

import argparse
import sys
from pathlib import Path

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import enrolment
from controlplane.domains.identity.types import CONSOLE, CUSTODIANS, NewCode
from controlplane.main.process import run_process
from controlplane.main.record import start_recorder
from controlplane.main.settings import ApiSettings, read_settings
from controlplane.main.wiring import open_database


async def print_code(settings: ApiSettings, lost: Role | None, reason: str) -> None:
    """Print the code alone on standard output; raises Conflict, exit code 3, when none is due."""
    database = open_database(settings.database)
    recorder = await start_recorder(settings.audit, "enrol_code", database, watch=False)
    try:
        async with database.transaction() as tx:
            made = await enrolment.create_console_code(tx, CONSOLE, lost=lost, reason=reason)
    finally:
        await recorder.close()
        await database.close()
    sys.stdout.write(f"{made.code}\n")
    sys.stderr.write(_next_step(made))


def _next_step(made: NewCode) -> str:
    who = " and ".join(made.roles)
    return f"This lets one person in as {who}, until {made.expires_at:%H:%M} UTC:\n  next: {enrolment.ENROL} --code …\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="controlplane.main.enrol_code", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings of redoubt-api")
    parser.add_argument("--lost", type=Role, choices=sorted(CUSTODIANS), metavar="ROLE", help="who cannot sign in")
    parser.add_argument("--reason", default="", metavar="WHY", help="why; it goes on record")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    settings = read_settings(ApiSettings, given.config)
    run_process("enrol_code", print_code(settings, given.lost, given.reason))
