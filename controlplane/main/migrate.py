"""Bring the database to this version's tables; prints what it did, so that a play can tell a change from none."""

import sys

from controlplane.main.process import config_path, run_process
from controlplane.main.settings import MigrateSettings, read_settings
from controlplane.main.wiring import open_database
from controlplane.migrations.upgrade import upgrade


async def migrate(settings: MigrateSettings) -> None:
    database = open_database(settings.database)
    try:
        async with database.connection() as connection:
            before, after = await connection.run_sync(upgrade)
    finally:
        await database.close()
    sys.stdout.write("unchanged\n" if before == after else f"changed: {before or 'nothing'} -> {after}\n")


if __name__ == "__main__":
    run_process("migrate", migrate(read_settings(MigrateSettings, config_path("migrate"))))
