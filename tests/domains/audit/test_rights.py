"""What the service's own role may do to the log: add and read (T6, and every attack from inside the api)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM
from controlplane.kit.tx import Tx
from controlplane.migrations.roles import ADD_ONLY, OWNER, as_role
from tests.domains.audit.conftest import Log


async def run(log: Log, statement: str) -> None:
    async with log.plane.database.transaction() as tx:
        await tx.session.execute(text(statement))


@pytest.mark.parametrize("table", ADD_ONLY)
@pytest.mark.parametrize(
    "statement", ["delete from {}", "truncate {} cascade", "update {} set {} = {}", "drop table {}"]
)
async def test_the_service_may_only_add(log: Log, table: str, statement: str):
    column = {
        "audit_personal_keys": "key", "audit_holds": "reason", "audit_hold_ends": "ended_by",
        "audit_leaves": "hash", "audit_nodes": "hash", "audit_checkpoints": "note", "audit_cosignatures": "line",
        "audit_events": "body", "audit_personal": "sealed", "audit_purges": "bodies",
    }[table]  # fmt: skip
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        await run(log, statement.format(table, column, column))


@pytest.mark.parametrize(
    "statement",
    [
        "alter table audit_events disable trigger all",
        "drop trigger audit_events_never_change on audit_events",
        "create or replace function refuse_change() returns trigger language plpgsql as 'begin return old; end'",
        "alter table audit_events owner to redoubt",
        "set role redoubt_owner",
        "set session_replication_role = replica",
        "update alembic_version set version_num = '0001'",
        "create temporary table audit_purges (event_id text)",
        "create function public.mine() returns void language sql as 'select'",
    ],
)
async def test_the_service_cannot_give_itself_more(log: Log, statement: str):
    with pytest.raises(DBAPIError, match=r"permission denied|must be owner|must be able to SET ROLE"):
        await run(log, statement)


async def test_saying_that_one_purges_is_no_right_to(log: Log):
    await log.record(1)

    async def purge() -> None:
        async with log.plane.database.transaction() as tx:
            await tx.session.execute(text("select set_config('redoubt.purging', 'on', true)"))
            await tx.session.execute(text("delete from audit_events"))

    with pytest.raises(ProgrammingError, match="permission denied"):
        await purge()


@pytest.mark.parametrize("call", ["audit_purge(1, 'evt_1')", "audit_erase('prn_1', 'evt_1')"])
async def test_the_owners_functions_refuse_a_call_that_no_event_tells_of(log: Log, call: str):
    await log.record(1)
    await log.seal()
    with pytest.raises(DBAPIError, match="no event of this transaction"):
        await run(log, f"select {call}")
    assert len(await log.entries()) == 1


LOOK = """
create function pg_temp.look() returns trigger language plpgsql as $$
begin insert into pg_temp.seen values (current_user); return new; end $$
"""
SHADOW = (
    "create temporary table seen (who text)",
    "grant all on seen to public",
    LOOK,
    "create temporary table audit_purges (like public.audit_purges)",
    "create trigger look before insert on audit_purges for each row execute function pg_temp.look()",
    "create temporary table audit_holds (like public.audit_holds)",
    "grant all on audit_purges, audit_holds to public",
)


@asynccontextmanager
async def temporary_tables_allowed(database_url: str) -> AsyncIterator[None]:
    """Let the service make temporary tables, as if nobody had taken that right away."""
    engine = create_async_engine(as_role(database_url, OWNER))
    async with engine.begin() as connection:
        name = await connection.scalar(text("select current_database()"))
        await connection.execute(text(f'grant temporary on database "{name}" to redoubt'))
    try:
        yield
    finally:
        async with engine.begin() as connection:
            await connection.execute(text(f'revoke temporary on database "{name}" from redoubt'))
        await engine.dispose()


async def purge_behind_shadows(tx: Tx) -> None:
    for statement in SHADOW:
        await tx.session.execute(text(statement))
    await audit.record(tx, SYSTEM, "audit.purged", "audit")
    await tx.session.flush()
    told = tx.session.info[audit.ENTRIES][-1].event_id
    await tx.session.execute(text("select audit_purge(0, :told)"), {"told": told})


async def test_a_temporary_table_does_not_run_as_the_owner_in_the_place_of_the_logs(log: Log, database_url: str):
    async with temporary_tables_allowed(database_url), log.plane.database.transaction() as tx:
        await purge_behind_shadows(tx)
        assert (await tx.session.execute(text("select who from pg_temp.seen"))).all() == []
        assert await tx.session.scalar(text("select count(*) from public.audit_purges")) == 1
        for table in ("audit_purges", "audit_holds", "seen"):
            await tx.session.execute(text(f"drop table pg_temp.{table} cascade"))


async def test_a_temporary_table_does_not_hide_a_legal_hold(log: Log, database_url: str):
    await run(log, "insert into audit_holds values ('hold_1', 'a case', 'somebody', now())")

    async def purge() -> None:
        async with log.plane.database.transaction() as tx:
            await purge_behind_shadows(tx)

    async with temporary_tables_allowed(database_url):
        with pytest.raises(DBAPIError, match="a legal hold is open"):
            await purge()
