"""Bring the shipped policies back into force, where the set in force denies all.

For the console of the control-plane node, as the user of redoubt-api: root says `runuser -u redoubt -- ...`.
"""

import sys

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.policy import service as policy
from controlplane.main.process import config_path, run_process
from controlplane.main.record import start_recorder
from controlplane.main.settings import ApiSettings, read_settings
from controlplane.main.wiring import open_database


async def reset(settings: ApiSettings) -> None:
    database = open_database(settings.database)
    recorder = await start_recorder(settings.audit, "policy_reset", database, watch=False)
    try:
        async with database.transaction() as tx:
            await policy.reset(tx, SYSTEM)
    finally:
        await recorder.close()
        await database.close()
    sys.stdout.write("the shipped policies are in force; it is in the audit log as policy.reset\n")


if __name__ == "__main__":
    run_process("policy_reset", reset(read_settings(ApiSettings, config_path("policy_reset"))))
