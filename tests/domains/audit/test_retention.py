"""What leaves the log leaves its hashes, and proofs hold (T14, T15)."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from controlplane.client.audit_export import write_export
from controlplane.contracts import audit as shapes
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import Sweeper, TileFolder
from controlplane.domains.audit.types import Actor, Personal, Role
from controlplane.kit.errors import Refused
from controlplane.verifier import redoubt_verify
from tests.domains.audit.conftest import Log

MONTH_S = 31 * 86400
ADA = Actor("usr_ada", Role.OPERATOR, source="10.1.2.3")
GUARD = Actor("usr_guard", Role.SECURITY_ADMIN)


async def old_log(log: Log, *, months: int, count: int = 5) -> None:
    """Fill a log with events of ADA that are that old, and one of now."""
    log.plane.clock.move(-months * MONTH_S)
    for _ in range(count):
        async with log.plane.database.transaction() as tx:
            await audit.record(tx, ADA, "thing.happened", "site", who=Personal("Ada Lovelace"))
    await log.seal()
    log.plane.clock.move(months * MONTH_S)
    await log.record(1)
    await log.seal()


async def export(log: Log, folder: Path) -> int:
    async with log.plane.database.transaction() as tx:
        size = await audit.count_leaves(tx)
        rows = [await audit.get_checkpoint(tx, n) for n in range(1, size + 1) if await has_checkpoint(log, n)]
        checkpoints = [
            shapes.Checkpoint(size=row.size, root=row.root.hex(), note=row.note, signer=row.signer, made_at=row.made_at)
            for row in rows
        ]
    entries = [shapes.Entry(index=i, hash=h.hex(), body=body) for i, h, body in await log.entries()]
    write_export(folder, checkpoints, entries)
    return redoubt_verify.main([str(folder), "--json"])


async def has_checkpoint(log: Log, size: int) -> bool:
    async with log.plane.database.transaction() as tx:
        return bool(await tx.session.scalar(text(f"select count(*) from audit_checkpoints where size = {size}")))


async def test_after_a_purge_the_log_verifies_and_the_bodies_are_gone(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    await old_log(log, months=14)
    async with log.plane.database.transaction() as tx:
        assert await audit.purge(tx, GUARD, months=13) == (5, 5)
    await log.seal()

    assert [body is None for _, _, body in await log.entries()] == [True] * 5 + [False] * 2
    assert await export(log, tmp_path / "x") == 0
    assert json.loads(capsys.readouterr().out)["purged"] == 5


async def test_the_files_of_this_machine_forget_what_was_purged(log: Log, tmp_path: Path):
    log.sealer.tiles = TileFolder(tmp_path / "log")
    await old_log(log, months=14)
    (tmp_path / "segments").mkdir()
    async with log.plane.database.transaction() as tx:
        await audit.purge(tx, GUARD, months=13)
    await Sweeper(log.plane.database, tmp_path / "segments", log.sealer.tiles).step()

    assert list((tmp_path / "log/tile/entries").rglob("*")) == []
    assert (tmp_path / "log/tile/0/000.p/6").exists()


async def test_what_is_younger_than_six_months_stays(log: Log):
    await old_log(log, months=5)
    async with log.plane.database.transaction() as tx:
        assert await audit.purge(tx, GUARD, months=6) == (0, 0)
    with pytest.raises(Refused):
        async with log.plane.database.transaction() as tx:
            await audit.purge(tx, GUARD, months=5)


async def test_the_database_itself_refuses_a_purge_of_what_is_young(log: Log):
    await log.record(3)
    await log.seal()

    async def purge_all() -> None:
        async with log.plane.database.transaction() as tx:
            await audit.record(tx, GUARD, "audit.purged", "audit", before_leaf=3)
            await tx.session.flush()
            event_id = tx.session.info[audit.ENTRIES][-1].event_id
            await tx.session.execute(text("select audit_purge(3, :event)"), {"event": event_id})

    with pytest.raises(DBAPIError, match="younger than six months"):
        await purge_all()
    assert len(await log.entries()) == 3


async def test_under_a_legal_hold_nothing_goes_until_it_is_released(log: Log):
    await old_log(log, months=14)
    async with log.plane.database.transaction() as tx:
        hold = await audit.place_hold(tx, GUARD, reason="case 7")
    with pytest.raises(Refused, match="legal hold"):
        async with log.plane.database.transaction() as tx:
            await audit.purge(tx, GUARD, months=13)
    with pytest.raises(Refused, match="legal hold"):
        async with log.plane.database.transaction() as tx:
            await audit.erase(tx, GUARD, subject=ADA.id)
    async with log.plane.database.transaction() as tx:
        await audit.release_hold(tx, GUARD, hold_id=hold.id)
    async with log.plane.database.transaction() as tx:
        assert await audit.purge(tx, GUARD, months=13) == (5, 5)


async def test_after_an_erasure_nobody_can_tell_who_it_was_and_the_log_verifies(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    await old_log(log, months=1)
    bodies = [json.loads(body or "") for _, _, body in await log.entries()]
    async with log.plane.database.transaction() as tx:
        before = await audit.get_event(tx, bodies[0]["event_id"])
        assert json.loads(before.personal or "") == {"source": "10.1.2.3", "who": "Ada Lovelace"}
        assert await audit.erase(tx, GUARD, subject=ADA.id) == 5
    await log.seal()

    async with log.plane.database.transaction() as tx:
        assert (await audit.get_event(tx, bodies[0]["event_id"])).personal == audit.ERASED
        kept = (await tx.session.execute(text("select body from audit_events"))).scalars().all()
    assert not any("Ada" in body or "10.1.2.3" in body for body in kept)
    assert await export(log, tmp_path / "x") == 0
    capsys.readouterr()


async def test_two_events_of_one_address_cannot_be_matched(log: Log):
    await old_log(log, months=1, count=2)
    first, second, _ = [json.loads(body or "") for _, _, body in await log.entries()]
    assert first["source"] != second["source"]
    assert first["personal"] != second["personal"]
