"""What goes wrong around one line or one file stays there."""

import asyncio
import fcntl
import os
import threading

import openai
import pytest

from controlplane.gateway.batch.batch_run import BatchRun
from controlplane.gateway.batch.line_request import LineDoor
from controlplane.gateway.batch.records import BatchRecord
from controlplane.gateway.batch.sealed import SealedWriter
from controlplane.gateway.request import Request
from tests.gateway.batch.office import OpenOffice, a_line, counts, until
from tests.gateway.stage import Call, Stage


class BrokenDoor(LineDoor):
    """Has a bug that the second line meets."""

    def admit(self, record: BatchRecord, number: int, body: bytes) -> Request:
        if number == 2:
            raise ZeroDivisionError
        return super().admit(record, number, body)


async def test_a_fault_over_one_line_fails_that_line_alone(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, a_line("a") + a_line("b") + a_line("c"))
        record = office.archive.batches.find("blue", made.id)
        assert record is not None
        await BatchRun(
            office.gateway.hub, office.archive, BrokenDoor(office.gateway.hub, office.archive), record
        ).work()
        done = await client.batches.retrieve(made.id)
        bad = await office.results(client, done.error_file_id)

    assert (done.status, counts(done)) == ("completed", (3, 2, 1))
    assert bad["b"]["error"]["code"] == "gateway_failed"
    assert len(replica.requests) == 2


async def test_lines_that_were_stopped_are_not_taken_for_lines_that_kill(stage: Stage, opens: OpenOffice):
    async def answer_again(call: Call) -> None:
        await (call.until_hung_up() if len(replica.requests) == 1 else call.answer())

    replica = await stage.replica(answer_again)
    office = await opens(replica, starts=1)
    hub, archive = office.gateway.hub, office.archive
    async with office.openai() as client:
        made = await office.submit(client, a_line("a"))
        record = archive.batches.find("blue", made.id)
        assert record is not None
        course = asyncio.ensure_future(BatchRun(hub, archive, LineDoor(hub, archive), record).work())
        await until(lambda: len(replica.requests) == 1)
        course.cancel()
        await asyncio.wait([course])
        done = await office.until_over(client, made.id)

    assert (done.status, counts(done)) == ("completed", (1, 1, 0))
    assert len(replica.requests) == 2


async def test_a_damaged_input_ends_a_batch_with_what_was_done(stage: Stage, opens: OpenOffice):
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def answer(call: Call) -> None:
        asked.set()
        await goes_on.wait()
        await call.answer()

    replica = await stage.replica(answer)
    office = await opens(replica, lines_at_once=1)
    long = [{"role": "user", "content": "x" * 400_000}]
    async with office.openai() as client:
        made = await office.submit(client, b"".join(a_line(name, messages=long) for name in "abcd"))
        await office.leader.step()
        await until(asked.is_set)
        with office.kept("input")[0].open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"0123456789")
        goes_on.set()
        done = await office.until_over(client, made.id)
        good = await office.results(client, done.output_file_id)

    assert done.status == "failed"
    assert done.errors is not None
    assert [fault.code for fault in done.errors.data or []] == ["input_unreadable"]
    assert "a" in good
    assert len(replica.requests) == len(good)


async def test_what_cannot_be_written_of_a_batch_keeps_no_file_from_expiring(
    stage: Stage, opens: OpenOffice, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controlplane.gateway.batch.leader.SWEEP_S", 0.0)
    goes_on = asyncio.Event()

    async def answer(call: Call) -> None:
        await goes_on.wait()
        await call.answer()

    office = await opens(await stage.replica(answer), least_kept_s=1, counts_s=0.0)
    async with office.openai() as client:
        await office.submit(client, a_line("a"))
        await office.leader.step()
        await until(lambda: len(office.kept("log")) == 1)
        state = office.kept("state")[0]
        state.unlink()
        state.mkdir()  # as a disk that takes nothing: saving raises OSError
        await client.files.create(
            file=("b", a_line("b")), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1}
        )
        office.archive.limits = type(office.archive.limits)(free_bytes=2**60)
        for _ in range(200):
            await office.leader.step()
            if len(office.kept("head")) == 1:
                break
            await asyncio.sleep(0.02)

    goes_on.set()
    assert len(office.kept("head")) == 1


async def test_a_worker_that_drains_leaves_the_batches_to_another_at_once(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    await office.leader.step()
    office.gateway.hub.draining = True

    await office.leader.step()

    descriptor = os.open(office.folder / "leader.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while somebody has it
    os.close(descriptor)


async def test_a_query_of_many_fields_is_refused_and_the_connection_lives(stage: Stage, opens: OpenOffice):
    office = await opens()
    async with office.openai() as client:
        for path in ("/files", "/batches"):
            answer = await client._client.get(  # noqa: SLF001 - openai's own client cannot send such a query
                f"{client.base_url}{path[1:]}?" + "&".join(f"a{n}=1" for n in range(17)),
                headers=client.auth_headers,
            )
            assert (answer.status_code, "16 fields" in answer.text) == (400, True)


@pytest.mark.parametrize("asked", ["000003600000000", "3600000000000", "36e2", "-5", "\u0663\u0663"])
async def test_a_number_with_many_digits_keeps_no_file_for_longer(stage: Stage, opens: OpenOffice, asked: str):
    office = await opens()
    async with office.openai() as client:
        answer = await client._client.post(  # noqa: SLF001 - openai's own client sends numbers
            f"{client.base_url}files",
            headers=client.auth_headers,
            data={"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": asked},
            files={"file": ("a.jsonl", a_line("a"))},
        )

    assert answer.status_code == 400
    assert office.kept("data") == []


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_an_upload_that_leaves_while_its_file_is_opened_leaves_nothing_open(
    stage: Stage, opens: OpenOffice, times: int
):
    office = await opens()
    archive, goes_on = office.archive, threading.Event()

    def begin() -> SealedWriter:
        goes_on.wait()
        return archive.files.begin("blue", "file-0")

    opening = asyncio.ensure_future(archive.open(begin, SealedWriter.discard))
    for _ in range(times):
        await asyncio.sleep(0.01)
        opening.cancel()
    await asyncio.sleep(0.01)
    goes_on.set()
    await asyncio.wait([opening])

    assert opening.cancelled()
    assert office.kept("part") == []


async def test_a_word_to_cancel_what_has_ended_is_swept(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    async with office.openai() as client:
        made = await office.submit(client, a_line("a"))
        await office.until_over(client, made.id)
        await until(lambda: office.kept("input") == [])
        record = office.archive.batches.find("blue", made.id)
        assert record is not None
        office.archive.batches.ask_to_cancel(record)

    office.archive.batches.sweep(0)

    assert office.kept("cancel") == []
    assert len(office.kept("state")) == 1


async def test_what_another_key_sealed_goes_when_it_is_old(stage: Stage, opens: OpenOffice):
    office = await opens()
    async with office.openai() as client:
        await office.submit(client, a_line("a"))
    for path in (*office.kept("head"), *office.kept("state")):
        path.write_bytes(b"sealed by another key, perhaps")
    now_s, kept_s = office.archive.now_s(), office.archive.limits.most_kept_s

    left = []
    for at_s in (now_s + kept_s - 10, now_s + kept_s + 10):
        office.archive.files.sweep(at_s, frozenset())
        office.archive.batches.sweep(at_s - kept_s)
        left.append([len(office.kept(suffix)) for suffix in ("head", "data", "state", "input")])

    assert left == [[1, 1, 1, 1], [0, 0, 0, 0]]


async def test_a_project_keeps_no_more_batches_than_it_may(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica(), project_batches_kept=1)
    async with office.openai() as client:
        await office.until_over(client, (await office.submit(client, a_line("a"))).id)
        with pytest.raises(openai.RateLimitError, match="batches of the project are kept"):
            await office.submit(client, a_line("b"))


async def test_a_batch_that_is_being_made_of_an_old_file_is_left_alone(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    async with office.openai() as client:
        await client.files.create(file=("a", a_line("a")), purpose="batch")
        (data,) = office.kept("data")
        own = data.with_name(f"batch_{0:032x}.input")
        os.utime(data, (0, 0))  # its content is old, and so is that of every link to it

        os.link(data, own)
        await office.leader.step()

        assert own.exists()
