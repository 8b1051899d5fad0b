"""What is committed gets a place in the tree: each event one, whatever the order of the commits."""

import asyncio
from base64 import b64decode
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import Sealer
from controlplane.domains.audit.types import SYSTEM
from controlplane.kit.merkle import is_consistent, is_included, leaf_hash
from controlplane.kit.note import Checkpoint, is_signed, parse_checkpoint, parse_key, parse_note, verifier_key
from tests.domains.audit.conftest import KEY, Log
from tests.support.audit_export import hashes_of
from tests.support.control_plane import SITE


async def test_a_checkpoint_is_signed_over_all_that_was_committed(log: Log):
    await log.record(3)
    made = await log.seal()

    assert made is not None
    async with log.plane.database.transaction() as tx:
        row = await audit.get_checkpoint(tx)
    note = parse_note(row.note)
    assert parse_checkpoint(note.body) == made
    assert (made.origin, made.size) == (SITE, 3)
    assert is_signed(note.body, note.signatures[0], verifier_key(SITE, KEY))


async def test_the_tree_of_the_database_is_that_of_its_entries(log: Log):
    await log.record(300)
    made = await log.seal()
    entries = await log.entries()

    assert made is not None
    assert [index for index, _, _ in entries] == list(range(300))
    assert all(body is not None and leaf_hash(body.encode()) == value for _, value, body in entries)
    async with log.plane.database.transaction() as tx:
        for index in (0, 255, 256, 299):
            body = entries[index][2] or ""
            proof = await audit.prove_inclusion(tx, event_id=body.split('"event_id":"')[1][:24])
            assert is_included(entries[index][1], index, 300, hashes_of(proof), made.root)


async def test_every_state_goes_on_from_the_one_before(log: Log):
    states: list[Checkpoint] = []
    for count in (1, 5, 250, 3):
        await log.record(count)
        made = await log.seal()
        assert made is not None
        states.append(made)

    async with log.plane.database.transaction() as tx:
        for old, new in pairwise(states):
            proof = await audit.prove_consistency(tx, first=old.size, second=new.size)
            hashes = [b64decode(line) for line in proof]
            assert is_consistent(old.size, old.root, new.size, new.root, hashes)


async def test_an_event_that_commits_late_with_a_lower_number_is_sealed_too(log: Log):
    async with log.plane.database.transaction() as slow:
        await audit.record(slow, SYSTEM, "slow.happened", "site")
        await slow.session.flush()
        await log.record(2)
        await log.sealer.step()
        await log.record(1)
        await log.sealer.step()
    await log.seal()

    bodies = [body or "" for _, _, body in await log.entries()]
    assert len(bodies) == 4
    assert sum("slow.happened" in body for body in bodies) == 1


async def test_ten_writers_at_once_leave_no_gap_and_no_duplicate(log: Log):
    async def write(number: int) -> None:
        for _ in range(20):
            async with log.plane.database.transaction() as tx:
                await audit.record(tx, SYSTEM, "thing.happened", f"writer-{number}")
                await asyncio.sleep(0)
            if number == 0:
                await log.sealer.step()

    await asyncio.gather(*(write(number) for number in range(10)))
    await log.seal()

    entries = await log.entries()
    assert [index for index, _, _ in entries] == list(range(200))
    assert len({body for _, _, body in entries}) == 200


async def test_two_sealers_at_once_give_no_leaf_twice(log: Log):
    await log.record(50)
    other = Sealer(log.plane.database, SITE, lambda: KEY, log.plane.clock)
    await asyncio.gather(log.seal(), other.step(last=True))

    assert len(await log.entries()) == 50


async def test_an_event_that_was_rolled_back_is_nowhere(log: Log):
    async def fail() -> None:
        async with log.plane.database.transaction() as tx:
            await audit.record(tx, SYSTEM, "thing.happened", "site")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await log.record(1)
    await log.seal()

    assert len(await log.entries()) == 1


async def test_a_checkpoint_waits_ten_seconds_or_a_thousand_events(log: Log):
    await log.record(1)
    assert await log.sealer.step() is not None
    await log.record(1)
    assert await log.sealer.step() is None
    log.plane.clock.move(10)
    assert await log.sealer.step() is not None
    async with log.plane.database.transaction() as tx:
        for _ in range(1000):
            await audit.record(tx, SYSTEM, "thing.happened", "site")
    assert await log.sealer.step() is not None


async def test_without_new_events_there_is_no_new_checkpoint(log: Log):
    await log.record(1)
    await log.seal()
    log.plane.clock.move(60)
    assert await log.seal() is None


async def test_without_its_key_nothing_is_signed_and_all_is_sealed(log: Log):
    log.key = None
    await log.record(3)
    assert await log.seal() is None
    assert len(await log.entries()) == 3


async def test_what_a_step_sealed_before_it_failed_is_sealed_by_the_next_one(log: Log):
    def unreadable() -> Ed25519PrivateKey:
        raise RuntimeError

    await log.record(3)
    log.sealer.key = unreadable
    with pytest.raises(RuntimeError):
        await log.seal()
    log.sealer.key = lambda: KEY
    made = await log.seal()

    assert made is not None
    assert made.size == 3


async def test_a_new_key_is_told_of_before_it_signs(log: Log):
    await log.record(1)
    await log.seal()
    log.key = Ed25519PrivateKey.from_private_bytes(b"n" * 32)
    await log.record(1)
    assert await log.seal() is None
    made = await log.seal()

    assert made is not None
    assert made.size == 3
    async with log.plane.database.transaction() as tx:
        row = await audit.get_checkpoint(tx)
    assert parse_key(row.signer) == verifier_key(SITE, log.key)
    assert any("audit.key_changed" in (body or "") for _, _, body in await log.entries())


@pytest.mark.parametrize("table", ["audit_events", "audit_leaves", "audit_nodes", "audit_checkpoints"])
async def test_no_row_of_the_log_changes_or_goes(log: Log, table: str):
    await log.record(256)
    await log.seal()
    column = {"audit_events": "role", "audit_checkpoints": "note"}.get(table, "hash")
    for statement in (f"update {table} set {column} = {column}", f"delete from {table}"):
        with pytest.raises(DBAPIError, match=r"never change|permission denied"):
            async with log.plane.database.transaction() as tx:
                await tx.session.execute(text(statement))
