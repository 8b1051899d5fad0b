"""No sink, no answer: what cannot be recorded in both places does not happen (T10)."""

import errno
import json
import os
from pathlib import Path

import pytest
from sqlalchemy import text

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import DiskWatch, SecondSink, check_start
from controlplane.domains.audit.types import SYSTEM, Actor, BehindItsWitnesses, Role, Unrecorded
from controlplane.kit.crypto import new_signing_key_pem
from controlplane.kit.key_file import KeyFile
from controlplane.kit.segments import Ballast, SegmentWriter
from tests.domains.audit.conftest import Log
from tests.support.database import empty


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "audit.key"
    path.write_bytes(new_signing_key_pem())
    return path


@pytest.fixture
def sink(log: Log, tmp_path: Path, key: Path) -> SecondSink:
    (tmp_path / "segments").mkdir()
    writer = SegmentWriter(tmp_path / "segments", "api", patience_s=2)
    made = SecondSink(writer, Ballast(tmp_path / "ballast", 4096), KeyFile(key).is_there)
    made.attach(log.plane.database)
    return made


def segment_lines(folder: Path) -> list[bytes]:
    return [line for path in sorted((folder / "segments").iterdir()) for line in path.read_bytes().splitlines()]


async def events_of(log: Log) -> int:
    async with log.plane.database.transaction() as tx:
        return int(await tx.session.scalar(text("select count(*) from audit_events")) or 0)


async def record_as(log: Log, role: Role) -> None:
    async with log.plane.database.transaction() as tx:
        await audit.record(tx, Actor("prn_1", role), "thing.happened", "site")


def break_disk(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fail)


async def test_an_event_is_in_the_segment_before_it_is_in_the_database(log: Log, sink: SecondSink, tmp_path: Path):
    async with log.plane.database.transaction() as tx:
        await audit.record(tx, SYSTEM, "thing.happened", "site")
        assert list((tmp_path / "segments").iterdir()) == []
        await sink.hold(tx)
        assert b"thing.happened" in segment_lines(tmp_path)[0]
        assert await events_of(log) == 0
    assert await events_of(log) == 1
    await sink.segments.close()


async def test_the_segment_holds_the_very_bytes_of_the_leaf(log: Log, sink: SecondSink, tmp_path: Path):
    await log.record(3, text="line\nfeed")
    await log.seal()
    await sink.segments.close()
    bodies = [body.encode() for _, _, body in await log.entries() if body is not None]
    assert [line for line in segment_lines(tmp_path) if not line.startswith(b'{"committed"')] == bodies


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_without_the_second_sink_nothing_happens(
    log: Log, sink: SecondSink, monkeypatch: pytest.MonkeyPatch, number: int
):
    with monkeypatch.context() as broken:
        break_disk(broken, number)
        with pytest.raises(Unrecorded):
            await log.record(1)
        assert await events_of(log) == 0
    await log.record(1)
    assert await events_of(log) == 1
    await sink.segments.close()


async def test_without_the_second_sink_the_api_answers_503_and_does_not_say_why(
    log: Log, sink: SecondSink, monkeypatch: pytest.MonkeyPatch
):
    token = await log.plane.administrator()
    break_disk(monkeypatch, errno.EIO)
    async with log.plane.client(token) as client:
        node = {"name": "gpu1", "address": "10.0.0.1", "zone": "north", "purposes": [], "gpus": []}
        answer = await client.put("/nodes", json={"nodes": [node]})
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
    assert "error" not in answer.text.lower()


async def test_what_records_nothing_goes_on_without_the_second_sink(
    log: Log, sink: SecondSink, monkeypatch: pytest.MonkeyPatch
):
    break_disk(monkeypatch, errno.EIO)
    assert await events_of(log) == 0


async def test_without_the_signing_key_nothing_happens(log: Log, sink: SecondSink, key: Path):
    pem = key.read_bytes()
    key.unlink()
    with pytest.raises(Unrecorded):
        await log.record(1)
    key.write_bytes(b"no key at all")
    with pytest.raises(Unrecorded):
        await log.record(1)
    key.write_bytes(pem)
    await log.record(1)
    assert await events_of(log) == 1
    await sink.segments.close()


async def test_only_break_glass_gets_the_ballast_of_a_full_disk(
    log: Log, sink: SecondSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sink.ballast.reserve()
    whole = os.fdatasync

    def full_while_ballast(file: int) -> None:
        if (tmp_path / "ballast").exists():
            raise OSError(errno.ENOSPC, "full")
        whole(file)

    monkeypatch.setattr(os, "fdatasync", full_while_ballast)
    with pytest.raises(Unrecorded):
        await record_as(log, Role.OPERATOR)
    assert (tmp_path / "ballast").exists()
    await record_as(log, Role.BREAK_GLASS)
    assert not (tmp_path / "ballast").exists()
    assert await events_of(log) == 1
    await sink.segments.close()


async def test_an_aborted_transaction_may_be_in_the_segment_and_is_never_marked(
    log: Log, sink: SecondSink, tmp_path: Path
):
    async def fail() -> None:
        async with log.plane.database.transaction() as tx:
            await audit.record(tx, SYSTEM, "thing.happened", "site")
            await sink.hold(tx)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await log.record(1)
    await sink.segments.close()
    marks = [json.loads(line) for line in segment_lines(tmp_path) if line.startswith(b'{"committed"')]
    assert [len(mark["committed"]) for mark in marks] == [1]
    await check_start(log.plane.database, tmp_path / "segments")


async def test_a_database_that_was_rolled_back_does_not_start(
    log: Log, sink: SecondSink, tmp_path: Path, database_url: str
):
    await log.record(2)
    made = await log.seal()
    assert made is not None
    sink.mark_checkpoint(made)
    await sink.segments.close()
    await check_start(log.plane.database, tmp_path / "segments")

    # T6: the old backup is an empty one
    await empty(database_url)
    with pytest.raises(BehindItsWitnesses, match="2 were seen, and 2"):
        await check_start(log.plane.database, tmp_path / "segments")


async def test_a_disk_that_fills_up_is_told_once_until_it_is_better(log: Log, tmp_path: Path):
    readings = iter((79, 80, 95, 70, 81))
    watch = DiskWatch(
        log.plane.database, tmp_path, Ballast(tmp_path / "ballast", 4096), lambda path: (100, next(readings), 0)
    )
    for _ in range(5):
        await watch.step()
    await log.seal()
    told = [body or "" for _, _, body in await log.entries() if "audit.disk_filling" in (body or "")]
    assert [json.loads(body)["details"]["percent"] for body in told] == [80, 81]
    assert (tmp_path / "ballast").exists()
