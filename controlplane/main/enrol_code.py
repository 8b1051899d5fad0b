"""Print one single-use code that makes the first administrator. For the console of the control-plane node."""

import sys

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.identity.service import keys
from controlplane.main.process import config_path, run_process
from controlplane.main.record import start_recorder
from controlplane.main.settings import ApiSettings, read_settings
from controlplane.main.wiring import open_database


async def print_code(settings: ApiSettings) -> None:
    """Raises Conflict, exit code 3, when an administrator exists."""
    database = open_database(settings.database)
    recorder = await start_recorder(settings.audit, "enrol_code", database, watch=False)
    try:
        async with database.transaction() as tx:
            code = await keys.create_enrolment_code(tx, SYSTEM)
    finally:
        await recorder.close()
        await database.close()
    sys.stdout.write(f"{code}\n")


if __name__ == "__main__":
    run_process("enrol_code", print_code(read_settings(ApiSettings, config_path("enrol_code"))))
