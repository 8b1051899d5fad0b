"""What a project and a node keep: never more than they may, however many ask at once."""

import asyncio
import time

import openai
import pytest

from controlplane.gateway.batch.refusals import NoRoom
from controlplane.gateway.batch.sealed import SealedWriter
from tests.gateway.batch.office import Office, OpenOffice, a_line, counts, until
from tests.gateway.batch.test_files import form, upload_head
from tests.gateway.stage import Call, Stage, say_hi

SIXTY = form(b"x" * 60_000)


async def begin_upload(office: Office, body: bytes) -> asyncio.StreamWriter:
    """Send half of a file and stand still."""
    _, writer = await office.gateway.connect()
    writer.write(upload_head(len(body), b"Connection: close") + body[: len(body) // 2])
    await writer.drain()
    await until(lambda: len(office.kept("part")) == 1)
    return writer


@pytest.mark.parametrize(("limit", "said"), [("project_bytes", "as much as it may"), ("all_bytes", "no room for more")])
async def test_an_upload_has_its_room_from_its_beginning_to_its_end(
    stage: Stage, opens: OpenOffice, limit: str, said: str
):
    office = await opens(**{limit: 100_000})
    first = await begin_upload(office, SIXTY)
    async with office.openai() as client:
        with pytest.raises(openai.InternalServerError, match=said):
            await client.files.create(file=("b", b"x" * 60_000), purpose="batch")

        first.transport.abort()
        await until(lambda: office.kept("part") == [])
        made = await client.files.create(file=("b", b"x" * 60_000), purpose="batch")

    assert made.bytes == 60_000


async def test_of_many_uploads_at_once_no_more_begin_than_there_is_room_for(
    stage: Stage, opens: OpenOffice, monkeypatch
):
    office = await opens(project_bytes=300_000)
    really_begin = office.archive.files.begin

    def begin_late(project: str, file_id: str, *, reserved_bytes: int) -> SealedWriter:
        time.sleep(0.02)  # others look for room meanwhile
        return really_begin(project, file_id, reserved_bytes=reserved_bytes)

    monkeypatch.setattr(office.archive.files, "begin", begin_late)

    def begin(number: int) -> bool:
        try:
            office.archive.files.begin_upload("blue", f"file-{number}", 60_000)
        except NoRoom:
            return False
        return True

    begun = await asyncio.gather(*(asyncio.to_thread(begin, number) for number in range(20)))

    assert sum(begun) == 5


async def test_what_uploads_may_still_write_is_not_free(stage: Stage, opens: OpenOffice, monkeypatch):
    office = await opens(free_bytes=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100_000}))
    office.archive.files.begin_upload("blue", "file-1", 60_000)

    with pytest.raises(NoRoom):
        office.archive.files.begin_upload("blue", "file-2", 60_000)


async def test_a_file_takes_no_more_than_it_holds_once_it_is_whole(stage: Stage, opens: OpenOffice):
    office = await opens()
    async with office.openai() as client:
        await client.files.create(file=("a", b"x" * 1000), purpose="batch")

    assert 1000 < office.kept("data")[0].stat().st_size < 1200


async def test_results_count_and_a_project_that_keeps_too_much_sends_no_more_lines(
    stage: Stage, opens: OpenOffice, monkeypatch
):
    monkeypatch.setattr("controlplane.gateway.batch.leader.ROOM_S", 0.0)

    async def answer(call: Call) -> None:
        await asyncio.sleep(0.2)
        await call.answer(b'{"long":"%b"}' % (b"x" * 20_000))

    replica = await stage.replica(answer)
    office = await opens(replica, project_bytes=100_000, lines_at_once=1, counts_s=0.0)
    async with office.openai() as client:
        other = await client.files.create(file=("other", b"x" * 60_000), purpose="batch")
        made = await office.submit(client, b"".join(a_line(f"{n}") for n in range(4)))
        waiting = await office.until_waiting(client, made.id)
        sent = len(replica.requests)
        await client.files.delete(other.id)
        done = await office.until_over(client, made.id)

    assert waiting.model_dump()["waiting"]["code"] == "project_full"
    assert 0 < sent < 4
    assert (done.status, counts(done)) == ("completed", (4, 4, 0))


async def test_a_batch_whose_results_would_be_too_many_files_is_refused(stage: Stage, opens: OpenOffice):
    office = await opens(project_files=2)
    async with office.openai() as client:
        with pytest.raises(openai.InternalServerError, match="as much as it may"):
            await office.submit(client, a_line("a"))

    assert office.kept("state") == []


async def test_the_files_of_a_batch_that_is_over_can_be_deleted(stage: Stage, opens: OpenOffice):
    async def answer(call: Call) -> None:
        if b"say b" in call.request.body:
            await call.answer(b'{"error":{}}', status="400 Bad Request")
        else:
            await say_hi(call)

    office = await opens(await stage.replica(answer))
    async with office.openai() as client:
        made = await office.submit(client, a_line("a") + a_line("b"))
        done = await office.until_over(client, made.id)
        await until(lambda: office.kept("input") == [])
        for file_id in (done.input_file_id, done.output_file_id, done.error_file_id):
            assert file_id is not None
            assert (await client.files.delete(file_id)).deleted

        assert [file.id async for file in client.files.list()] == []
        assert (await client.batches.retrieve(made.id)).status == "completed"
    assert office.kept("data") == office.kept("head") == office.kept("log") == []
