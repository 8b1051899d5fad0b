"""Runs the migrations on an open connection."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from controlplane.migrations.roles import grant_rights

MIGRATING = 0xA1E3B1C  # any constant: one advisory lock, so that two installers do not race


def upgrade(connection: Connection) -> tuple[str | None, str | None]:
    """Upgrade to the newest version in one transaction; return the versions before and after."""
    with connection.begin():
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATING})
        before = MigrationContext.configure(connection).get_current_revision()
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        grant_rights(connection)
        after = MigrationContext.configure(connection).get_current_revision()
    return before, after
