"""Alembic's entry: the connection is given, the transaction is the caller's."""

from alembic import context
from sqlalchemy import Connection

connection = context.config.attributes["connection"]
if not isinstance(connection, Connection):
    raise TypeError("migrations run through controlplane.migrations.upgrade")
context.configure(connection=connection)
context.run_migrations()
