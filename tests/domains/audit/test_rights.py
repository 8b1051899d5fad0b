"""What the service's own role may do to the log: add and read (T6, and every attack from inside the api)."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from controlplane.migrations.roles import ADD_ONLY
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
