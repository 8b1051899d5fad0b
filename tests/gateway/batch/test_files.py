"""/v1/files as OpenAI's client calls it, and as others do."""

import asyncio
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import openai
import pytest

from controlplane.contracts.snapshot import SnapshotShare
from controlplane.gateway.records import Denial
from tests.gateway.batch.office import KEEPS, open_office, until
from tests.gateway.stage import KEY, Stage, key

LINES = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"chat"}}\n'
LONG_FIELD = b'--xx\r\nContent-Disposition: form-data; name="x"\r\n\r\n%b\r\n' % (b"y" * 5000)
SECRET = b"the patient is called Ragnhild"


def form(content: bytes, *, purpose: bytes = b"batch", filename: bytes = b"in.jsonl", extra: bytes = b"") -> bytes:
    """Return a multipart body as curl writes it, the file first."""
    return (
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n%b\r\n%b--xx--\r\n'
    ) % (filename, content, purpose, extra)


def upload_head(length: int, *extra: bytes, secret: str = KEY) -> bytes:
    lines = (
        b"POST /v1/files HTTP/1.1", b"Host: x", b"Authorization: Bearer %b" % secret.encode(),
        b"Content-Type: multipart/form-data; boundary=xx", b"Content-Length: %d" % length, *extra,
    )  # fmt: skip
    return b"\r\n".join((*lines, b"", b""))


async def test_a_file_comes_back_as_it_was_sent(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    async with office.openai() as client:
        made = await client.files.create(file=("work.jsonl", LINES), purpose="batch")
        back = await client.files.content(made.id)
        shown = await client.files.retrieve(made.id)

    assert back.content == LINES
    assert (made.filename, made.bytes, made.purpose, made.status) == ("work.jsonl", len(LINES), "batch", "processed")
    assert shown == made


async def test_a_file_of_many_frames_comes_back_whole(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    content = b"".join(sha256(b"%d" % n).digest() for n in range(60_000))
    async with office.openai() as client:
        made = await client.files.create(file=("big", content), purpose="batch")
        back = await client.files.content(made.id)

    assert sha256(back.content).digest() == sha256(content).digest()


async def test_files_are_listed_in_pages_newest_first(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    async with office.openai() as client:
        made = [(await client.files.create(file=(f"{n}", LINES), purpose="batch")).id for n in range(5)]
        listed = [file.id async for file in client.files.list(limit=2)]
        outputs = [file.id async for file in client.files.list(purpose="batch_output")]

    assert sorted(listed) == sorted(made)
    assert outputs == []


async def test_a_deleted_file_is_gone_from_the_disk(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    async with office.openai() as client:
        made = await client.files.create(file=("a", LINES), purpose="batch")
        deleted = await client.files.delete(made.id)
        with pytest.raises(openai.NotFoundError, match="no file"):
            await client.files.retrieve(made.id)

    assert deleted.deleted
    assert office.kept("data") == office.kept("head") == []


async def test_nothing_of_a_file_can_be_read_from_the_disk(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    async with office.openai() as client:
        await client.files.create(file=("Ragnhild.jsonl", SECRET * 1000), purpose="batch")

    assert not office.is_told(b"Ragnhild")
    assert not office.is_told(b"blue")


async def test_content_is_kept_only_where_somebody_said_so(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    for shares in ((), (SnapshotShare(name="blue"),), (SnapshotShare(name="green", keeps_content=True),)):
        office.allow(shares=shares)
        async with office.openai() as client:
            with pytest.raises(openai.PermissionDeniedError, match="keep-content blue yes"):
                await client.files.create(file=("a", LINES), purpose="batch")

    assert office.kept("*") == []


async def test_another_projects_file_is_not_there(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    green = key("rdk_green").model_copy(update={"project": "green"})
    office.allow(keys=(key(KEY), green), shares=(KEEPS, KEEPS.model_copy(update={"name": "green"})))
    async with office.openai() as ours, office.openai("rdk_green") as theirs:
        made = await ours.files.create(file=("a", LINES), purpose="batch")
        for call in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
            with pytest.raises(openai.NotFoundError):
                await call(made.id)

        assert [file.id async for file in theirs.files.list()] == []
        assert (await ours.files.retrieve(made.id)).id == made.id


async def test_content_above_a_keys_classification_is_not_sent(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    office.allow(keys=(key(KEY, classification=2), key("rdk_low", classification=1)))
    async with office.openai() as high, office.openai("rdk_low") as low:
        made = await high.files.create(file=("a", SECRET), purpose="batch")
        with pytest.raises(openai.PermissionDeniedError, match="above what this key may carry"):
            await low.files.content(made.id)
        with pytest.raises(openai.PermissionDeniedError, match="above what this key may carry"):
            await low.files.delete(made.id)
        listed = [[file.id for file in (await client.files.list()).data] for client in (low, high)]

    assert listed == [[], [made.id]]
    denials = [note for note in office.gateway.journal.notes if isinstance(note, Denial)]
    assert [(note.code, note.key) for note in denials] == [("classification_not_allowed", "key_rdk_low")]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"../../etc/passwd", "passwd"),
        (b"C:\\\\windows\\\\x.jsonl", "x.jsonl"),
        (b"a\x00b\x1b[2J\xe2\x80\xaec.jsonl", "ab[2Jc.jsonl"),
        (b"\xff\xfe", "��"),
        (b"..", ".."),
        (b"/", "upload"),
        (b"x" * 5000, "x" * 255),
    ],
)
async def test_a_hostile_file_name_is_shown_and_nothing_more(stage: Stage, tmp_path: Path, sent: bytes, shown: str):
    office = await open_office(stage, tmp_path / "archive", form_bytes=16_384)
    body = form(LINES, filename=sent)
    answer = await office.gateway.raw(upload_head(len(body), b"Connection: close") + body)
    if len(sent) > 4000:
        assert b" 400 " in answer
        return

    async with office.openai() as client:
        assert [file.filename async for file in client.files.list()] == [shown]
    assert {path.name for path in tmp_path.iterdir()} == {"archive"}
    assert len(office.kept("data")) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", b"the form holds no whole file"),
        (b"hello", b"cannot be read"),
        (form(LINES)[:-12], b"no whole file"),
        (form(LINES, purpose=b"fine-tune"), b"kept for batches alone"),
        (form(LINES, extra=form(LINES)[:-8]), b"came twice"),
        (form(LINES, extra=LONG_FIELD), b"too long"),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_leaves_nothing_behind(stage: Stage, tmp_path: Path, body: bytes, said: bytes):
    office = await open_office(stage, tmp_path)

    answer = await office.gateway.raw(upload_head(len(body), b"Connection: close") + body)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert said in answer or not body
    assert office.kept("*") == []


async def test_an_upload_that_breaks_off_leaves_nothing_behind(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    body = form(LINES * 10_000)
    _, writer = await office.gateway.connect()
    writer.write(upload_head(len(body)) + body[: len(body) // 2])
    await writer.drain()
    await until(lambda: office.kept("part") != [])

    writer.transport.abort()

    await until(lambda: office.kept("*") == [] and office.archive.uploads == 0)


async def test_an_upload_that_stands_still_ends_and_a_slow_one_does_not(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, upload_silence_s=0.3)
    body = form(LINES)

    async def send(*parts: bytes) -> bytes:
        reader, writer = await office.gateway.connect()
        writer.write(upload_head(len(body), b"Connection: close"))
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.1)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.transport.abort()

    slow, still = await asyncio.gather(send(*(body[at : at + 25] for at in range(0, len(body), 25))), send(body[:50]))

    assert b" 200 OK" in slow
    assert b" 408 " in still


async def test_a_file_over_the_limit_is_refused_before_or_while_it_comes(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, file_bytes=1000, form_bytes=1000)
    body = form(b"x" * 3000)
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1500], body[1500:])) + b"0\r\n\r\n"
    head = upload_head(0, b"Connection: close").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")

    announced = await office.gateway.raw(upload_head(len(body)))
    told = await office.gateway.raw(head + chunked)
    just = await office.gateway.raw(upload_head(len(form(b"x" * 1000)), b"Connection: close") + form(b"x" * 1000))

    assert announced.startswith(b"HTTP/1.1 413 ")
    assert told.startswith(b"HTTP/1.1 413 ")
    assert just.startswith(b"HTTP/1.1 200 ")
    assert len(office.kept("data")) == 1
    assert office.kept("part") == []


async def test_a_project_keeps_no_more_than_it_may(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, project_bytes=100_000)
    async with office.openai() as client:
        await client.files.create(file=("a", b"x" * 60_000), purpose="batch")
        with pytest.raises(openai.InternalServerError, match="keeps as much as it may"):
            await client.files.create(file=("b", b"x" * 60_000), purpose="batch")


async def test_the_disk_of_the_records_is_never_filled(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, free_bytes=2**60)
    async with office.openai() as client:
        with pytest.raises(openai.InternalServerError, match="no room for more files") as caught:
            await client.files.create(file=("a", LINES), purpose="batch")

    assert caught.value.status_code == 507


async def test_a_file_expires_when_its_client_said(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, least_kept_s=1)
    archive = office.gateway.hub.archive
    assert archive is not None
    async with office.openai() as client:
        made = await client.files.create(
            file=("a", LINES), purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
        )
        with pytest.raises(openai.BadRequestError, match="expires_after"):
            await client.files.create(
                file=("a", LINES), purpose="batch", expires_after={"anchor": "created_at", "seconds": 10**9}
            )

    assert made.expires_at == made.created_at + 7200
    archive.files.sweep(made.created_at + 7199, frozenset())
    assert len(office.kept("data")) == 1
    archive.files.sweep(made.created_at + 7200, frozenset())
    assert office.kept("*") == []


async def test_content_goes_a_day_after_it_may_no_longer_be_kept(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    archive = office.gateway.hub.archive
    assert archive is not None
    async with office.openai() as client:
        made = await client.files.create(file=("a", LINES), purpose="batch")

    archive.files.sweep(made.created_at, frozenset({"blue"}))

    record = archive.files.find("blue", made.id, made.created_at)
    assert record is not None
    assert timedelta(seconds=record.expires_at - made.created_at) == timedelta(days=1)


async def test_a_file_that_was_tampered_with_is_not_sent_as_if_it_were_whole(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    async with office.openai() as client:
        made = await client.files.create(file=("a", SECRET * 30_000), purpose="batch")
        (path,) = office.kept("data")
        whole = path.read_bytes()
        for wrong in (whole[:-1], whole[:270_000], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
            path.write_bytes(wrong)
            with pytest.raises((openai.APIConnectionError, openai.InternalServerError)):
                await client.files.content(made.id)


async def test_a_key_that_is_none_is_refused_before_its_body_is_read(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)

    answer = await office.gateway.raw(upload_head(10**8, secret="rdk_wrong") + b"x" * 1000)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert office.kept("*") == []


async def test_one_connection_serves_files_and_chat_in_turn(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path, await stage.replica())
    body = form(LINES)
    async with office.gateway.client() as http:
        for _ in range(3):
            sent = await http.post(
                "/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=xx"}
            )
            chat = await http.post("/v1/chat/completions", json={"model": "chat", "messages": [{}], "max_tokens": 1})
            gone = await http.delete(f"/v1/files/{sent.json()['id']}")
            lost = await http.get("/v1/files/file-nobody")
            odd = await http.put("/v1/files")
            assert [r.status_code for r in (sent, chat, gone, lost, odd)] == [200, 200, 200, 404, 405]

    assert len(office.gateway.hub.connections) <= 1


async def test_pipelined_requests_are_answered_in_turn(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    body = form(LINES)
    listing = b"GET /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n%b\r\n"
    plain, last = listing % (KEY.encode(), b""), listing % (KEY.encode(), b"Connection: close\r\n")

    answer = await office.gateway.raw(plain + upload_head(len(body)) + body + plain + last)

    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b'"filename":"in.jsonl"') == 3


async def test_a_gateway_without_a_key_for_content_says_so(stage: Stage, tmp_path: Path):
    office = await open_office(stage, tmp_path)
    office.gateway.hub.archive = None
    async with office.openai() as client:
        with pytest.raises(openai.NotFoundError, match="content_key"):
            await client.files.create(file=("a", LINES), purpose="batch")
