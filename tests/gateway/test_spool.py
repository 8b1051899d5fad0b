"""What a gateway does is on the disk before it is done."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any  # fields of a line, by name

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from controlplane.contracts.spool import FIRST_PREV, AnyLine
from controlplane.gateway import spool_file, spool_folder
from controlplane.gateway.records import AnyRecord, Chain, Closed, Denial, Intent, Opened, Outcome, read_record
from controlplane.gateway.spool import GROUP_S, Spool
from controlplane.gateway.spool_file import SpoolFile, read_spool, segments, take_lock
from controlplane.gateway.spool_folder import SpoolReader, adopt_dead, make_spool
from controlplane.kit.canonical import canonical_json

BOOT = "ab" * 16
NOW = datetime(2026, 11, 27, tzinfo=UTC)
LINE: TypeAdapter[AnyLine] = TypeAdapter(AnyLine)


def intent(request: str = "req_1", **other: Any) -> Intent:
    made: dict[str, Any] = {
        "at_us": 1, "bytes_in": 10, "classification": 1, "endpoint": "chat", "key": "key_a", "policy": "",
        "project": "blue", "purpose": "general", "request": request, "revision": "revision_a", "secret": "secret_a",
        "snapshot": 1, "source": "127.0.0.1", "streamed": False, "zone": "north", **other,
    }  # fmt: skip
    return Intent(**made)


def outcome(request: str = "req_1", **other: Any) -> Outcome:
    made: dict[str, Any] = {
        "at_us": 2, "bytes_out": 20, "code": "", "duration_us": 1, "endpoint": "chat", "key": "key_a",
        "project": "blue", "replica": "replica_a", "request": request, "result": "answered", "status": 200,
        "tokens_in": None, "tokens_out": 3, **other,
    }  # fmt: skip
    return Outcome(**made)


def lines(folder: Path) -> list[bytes]:
    return b"".join(segment.path.read_bytes() for segment in segments(folder)).splitlines()


class Waiting:
    def __init__(self) -> None:
        self.said: bool | None = None

    def recorded(self) -> None:
        self.said = True

    def not_recorded(self) -> None:
        self.said = False


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in a thread that knows no event
            await asyncio.sleep(0.002)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / BOOT
    made.mkdir()
    return made


@pytest.fixture
async def spool(folder: Path) -> AsyncIterator[Spool]:
    made = Spool(SpoolFile(folder, Chain()), Opened(at_us=0, node="gw1"), most_bytes=1 << 20)
    yield made
    await made.close(Closed(at_us=9))


@given(st.text(max_size=50), st.integers(0, 2**53 - 1), st.booleans())
def test_every_line_is_canonical_json_of_the_shape_that_the_control_plane_reads(word, number, flag):
    records: list[AnyRecord] = [
        Opened(at_us=number, node=word),
        intent(word, source=word, bytes_in=number, streamed=flag),
        outcome(word, tokens_in=number if flag else None),
        Denial(at_us=1, code=word, key="k", policy="", project="", request=word, secret="", source="", times=1),
        Closed(at_us=number),
    ]
    chain = Chain()
    for record in records:
        line = chain.add(record)
        assert canonical_json(json.loads(line)) == line
        assert canonical_json(LINE.validate_json(line).model_dump(mode="json", exclude_defaults=True)) == line
        assert read_record(line) == record


async def test_a_waiter_goes_on_only_when_its_line_is_on_the_disk(spool, folder, monkeypatch):
    synced: list[bytes] = []
    real = os.fdatasync

    def watched(descriptor: int) -> None:
        real(descriptor)
        synced.append(b"\n".join(lines(folder)))

    monkeypatch.setattr(os, "fdatasync", watched)
    waiter = Waiting()

    spool.intend(intent("req_seen"), waiter)
    assert waiter.said is None
    await until(lambda: waiter.said)

    assert b"req_seen" in synced[-1]


async def test_many_at_once_share_one_fdatasync(spool, monkeypatch):
    await until(lambda: spool.durable_seq == 1)
    count: list[int] = []
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        count.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    waiters = [Waiting() for _ in range(100)]

    for number, waiter in enumerate(waiters):
        spool.intend(intent(f"req_{number}"), waiter)
    await until(lambda: all(waiter.said for waiter in waiters))

    assert len(count) == 1


async def test_an_outcome_leaves_without_a_further_request(spool, folder):
    spool.note(outcome("req_lonely"))

    await until(lambda: b"req_lonely" in b"".join(lines(folder)))
    assert GROUP_S <= 0.010


async def test_each_line_names_the_one_before_it(spool, folder):
    for number in range(5):
        waiter = Waiting()
        spool.intend(intent(f"req_{number}"), waiter)
        await until(lambda waiter=waiter: waiter.said)

    prev = FIRST_PREV
    for seq, line in enumerate(lines(folder)):
        told = json.loads(line)
        assert (told["seq"], told["prev"]) == (seq, prev)
        prev = sha256(line).hexdigest()


@pytest.mark.parametrize("broken", ["write", "fdatasync"])
@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EIO, errno.EROFS])
async def test_what_cannot_be_written_down_is_not_done_and_the_spool_heals(spool, folder, monkeypatch, broken, cause):
    await until(lambda: spool.durable_seq == 1)
    real = getattr(os, broken)

    def fail(descriptor: int, *data: bytes) -> int:
        if data:
            os.pwrite(descriptor, b'{"half":', os.fstat(descriptor).st_size)  # what a full disk leaves behind
        raise OSError(cause, os.strerror(cause))

    monkeypatch.setattr(os, broken, fail)
    refused = Waiting()
    spool.note(outcome("req_before"))
    spool.intend(intent("req_refused"), refused)
    await until(lambda: refused.said is not None)
    assert refused.said is False

    monkeypatch.setattr(os, broken, real)
    taken = Waiting()
    spool.intend(intent("req_taken"), taken)
    await until(lambda: taken.said)

    found = read_spool(folder)
    assert set(found.unanswered) == {"req_taken"}
    text = b"".join(lines(folder))
    assert b"req_before" in text, "an outcome that the disk refused once is written when it heals"
    assert b"req_refused" not in text


def test_nothing_is_written_to_a_segment_whose_name_may_not_last(folder, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    file = SpoolFile(folder, Chain())
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for _ in range(2):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                file.append([intent("req_lost")])
    file.append([intent("req_taken")])
    file.close()

    assert set(read_spool(folder).unanswered) == {"req_taken"}


async def test_beyond_its_size_nothing_more_is_done(folder):
    spool = Spool(SpoolFile(folder, Chain()), Opened(at_us=0, node="gw1"), most_bytes=300)
    first, second = Waiting(), Waiting()
    spool.intend(intent(), first)
    await until(lambda: first.said)

    spool.intend(intent(), second)
    assert second.said is False
    spool.correct_backlog(0)
    third = Waiting()
    spool.intend(intent(), third)
    await until(lambda: third.said)
    await spool.close(Closed(at_us=9))


async def test_a_spool_says_at_four_fifths_that_it_fills(spool, capsys):
    spool.correct_backlog(int(0.79 * (1 << 20)))
    assert "spool.filling" not in capsys.readouterr().out
    spool.correct_backlog(int(0.81 * (1 << 20)))
    assert "spool.filling" in capsys.readouterr().out


def dead(root: Path, *records: AnyRecord, torn: bytes = b"") -> Path:
    """Leave a spool as a worker that was killed does."""
    folder, lock = make_spool(root, BOOT)
    file = SpoolFile(folder, Chain())
    file.append(records)
    file.close()
    os.close(lock)
    with segments(folder)[-1].path.open("ab") as out:
        out.write(torn)
    return folder


def test_an_intent_without_outcome_becomes_unknown_at_the_next_start(tmp_path):
    folder = dead(tmp_path, Opened(at_us=0, node="gw1"), intent("req_a"), outcome("req_a"), intent("req_b"))

    (reader,) = adopt_dead(tmp_path, set(), 7)

    told = [json.loads(line) for line in reader.read()]
    assert [(line["kind"], line.get("request"), line.get("result")) for line in told[-2:]] == [
        ("outcome", "req_b", "unknown"),
        ("closed", None, None),
    ]
    assert read_spool(folder).is_closed


def test_what_nobody_knows_the_end_of_counts_as_all_that_it_held_and_as_whose_it_was(tmp_path):
    whose = {
        "workflow": "billing",
        "agent": "reader",
        "run": "r1",
        "step": "s1",
        "priority": "batch",
        "surface": "chat",
    }
    dead(tmp_path, Opened(at_us=0, node="gw1"), intent("req_a", held=(("budget_a", 500), ("budget_b/r1", 7)), **whose))

    (reader,) = adopt_dead(tmp_path, set(), 7)

    told = json.loads(reader.read()[-2])
    assert told["spent"] == [["budget_a", 500], ["budget_b/r1", 7]]
    assert {name: told[name] for name in whose} == whose
    assert (told["zone"], told["revision"]) == ("north", "revision_a")


def test_a_torn_line_is_cut_off_and_a_second_recovery_adds_nothing(tmp_path):
    folder = dead(tmp_path, Opened(at_us=0, node="gw1"), intent("req_a"), torn=b'{"at_us":1,"by')
    for reader in adopt_dead(tmp_path, set(), 7):
        os.close(reader._lock)  # noqa: SLF001 - as its process dies
    before = lines(folder)

    adopt_dead(tmp_path, set(), 8)

    assert lines(folder) == before
    assert read_spool(folder).unanswered == {}


def test_a_spool_that_was_tampered_with_is_left_as_it_is_and_not_shipped(tmp_path):
    folder = dead(tmp_path, Opened(at_us=0, node="gw1"), intent("req_a"), outcome("req_a"))
    path = segments(folder)[0].path
    path.write_bytes(path.read_bytes().replace(b'"key_a"', b'"key_b"', 1))
    before = path.read_bytes()

    assert adopt_dead(tmp_path, set(), 7) == []
    assert path.read_bytes() == before


def test_the_spool_of_a_living_worker_is_nobodys_else(tmp_path):
    folder, lock = make_spool(tmp_path, BOOT)

    assert adopt_dead(tmp_path, set(), 7) == []
    assert take_lock(folder) is None
    os.close(lock)


def test_a_reader_gives_every_line_once_across_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_file, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(spool_folder, "MOST_LINES", 7)
    folder, lock = make_spool(tmp_path, BOOT)
    file = SpoolFile(folder, Chain())
    for number in range(50):
        file.append([intent(f"req_{number}")])
    reader, got = SpoolReader(folder, lock), []
    while batch := reader.read(below=49):
        assert len(batch) <= 7
        got += batch
        reader.move(reader.next_seq + len(batch))

    assert got == lines(folder)[:49]
    assert len(segments(folder)) > 5


def test_segments_that_are_shipped_and_old_are_deleted_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_file, "SEGMENT_BYTES", 500)
    folder, lock = make_spool(tmp_path, BOOT)
    file = SpoolFile(folder, Chain())
    for number in range(20):
        file.append([intent(f"req_{number}")])
    reader = SpoolReader(folder, lock)
    reader.move(10)
    firsts = [segment.first for segment in segments(folder)]
    now = datetime.now(UTC)

    reader.drop_old(now, kept_bytes=1 << 20)
    assert [s.first for s in segments(folder)] == firsts
    reader.drop_old(now + timedelta(days=8), kept_bytes=1 << 20)

    left = [segment.first for segment in segments(folder)]
    assert left == [first for first in firsts if first >= 10 or first == max(f for f in firsts if f <= 10)]
    assert read_spool(folder).chain.next_seq == 20


def test_a_dead_spool_that_was_shipped_whole_is_no_backlog_after_a_restart_and_is_removed_when_old(tmp_path):
    folder = dead(tmp_path, Opened(at_us=0, node="gw1"), intent("req_a"), outcome("req_a"))
    (first,) = adopt_dead(tmp_path, set(), 7)
    assert first.backlog_bytes() > 0
    first.move(len(first.read()))
    os.close(first._lock)  # noqa: SLF001 - as its process dies

    (second,) = adopt_dead(tmp_path, set(), 8)

    assert second.read() == []
    assert second.backlog_bytes() == 0
    now = datetime.now(UTC)
    assert not second.is_over(now), "it is kept for a control plane that comes back from an older backup"
    second.drop_old(now + timedelta(days=8), kept_bytes=1 << 20)
    assert second.is_over(now + timedelta(days=8))
    second.remove()
    assert not folder.exists()
