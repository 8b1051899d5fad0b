"""The migrations and the mapped tables say the same."""

from importlib import import_module

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine

from controlplane.kit.tx import Table
from controlplane.migrations.roles import OWNER, as_role
from controlplane.migrations.upgrade import upgrade
from tests.support.source import python_files

TABLES = [".".join(p.with_suffix("").parts) for p in python_files("controlplane") if p.name == "tables.py"]


async def differences(url: str, metadata: sa.MetaData) -> list[object]:
    def compare(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(compare)
    finally:
        await engine.dispose()


@pytest.fixture
def metadata() -> sa.MetaData:
    """Every mapped table, copied so that a test may add to it."""
    for module in TABLES:
        import_module(module)
    copied = sa.MetaData(naming_convention=Table.metadata.naming_convention)
    for table in Table.metadata.sorted_tables:
        table.to_metadata(copied)
    return copied


async def test_the_migrated_database_is_what_the_tables_say(database_url: str, metadata: sa.MetaData):
    assert await differences(database_url, metadata) == []


async def test_a_table_and_a_column_without_migration_are_noticed(database_url: str, metadata: sa.MetaData):
    sa.Table("forgotten", metadata, sa.Column("id", sa.Integer, primary_key=True))
    metadata.sorted_tables[0].append_column(sa.Column("forgotten", sa.Integer))

    found = await differences(database_url, metadata)

    assert {entry[0] for entry in found if isinstance(entry, tuple)} == {"add_table", "add_column"}


async def test_migrating_again_changes_nothing(database_url: str):
    engine = create_async_engine(as_role(database_url, OWNER))
    async with engine.connect() as connection:
        before, after = await connection.run_sync(upgrade)
    await engine.dispose()

    assert before is not None
    assert before == after
