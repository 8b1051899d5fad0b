"""What is deleted cannot be read again, not even from its blocks on the disk with the node's own key."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path, PosixPath
from typing import BinaryIO

import pytest

from controlplane.gateway.batch.records import FileRecord
from controlplane.gateway.batch.sealed import HEADER_BYTES, Damaged, SealedWriter, Sealing, destroy, read_sealed
from tests.gateway.batch.office import NODE_KEY, Office, OpenOffice, a_line, until
from tests.gateway.batch.test_files import form, upload_head
from tests.gateway.stage import Call, Stage, say_hi

Watch = Callable[[Path], BinaryIO]
RECORD = FileRecord("file-1", "blue", "a", 1, "batch", 0, 0, 2**40)


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Opens a file so that its blocks can be read when its name is gone."""
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(path.open("rb"))


def has_key(file: BinaryIO) -> bool:
    return any(os.pread(file.fileno(), HEADER_BYTES, 0))


async def test_a_deleted_file_cannot_be_read_from_its_blocks(stage: Stage, opens: OpenOffice, watch: Watch):
    office = await opens()
    async with office.openai() as client:
        made = await client.files.create(file=("a", b"x" * 1000), purpose="batch")
        blocks = [watch(path) for path in (*office.kept("head"), *office.kept("data"))]
        assert list(map(has_key, blocks)) == [True, True]

        await client.files.delete(made.id)

    assert list(map(has_key, blocks)) == [False, False]


async def test_a_file_that_expired_cannot_be_read_from_its_blocks(stage: Stage, opens: OpenOffice, watch: Watch):
    office = await opens()
    async with office.openai() as client:
        made = await client.files.create(file=("a", b"x" * 1000), purpose="batch")
    blocks = [watch(path) for path in (*office.kept("head"), *office.kept("data"))]

    office.archive.files.sweep(made.expires_at or 0, frozenset())

    assert list(map(has_key, blocks)) == [False, False]


async def test_a_record_that_was_replaced_leaves_no_key(stage: Stage, opens: OpenOffice, watch: Watch):
    office = await opens()
    async with office.openai() as client:
        made = await client.files.create(file=("a", b"x"), purpose="batch")
        before = watch(office.kept("head")[0])

        office.archive.files.sweep(made.created_at, frozenset({"blue"}))

        assert (await client.files.retrieve(made.id)).expires_at != made.expires_at
    assert not has_key(before)


async def test_an_upload_that_breaks_off_leaves_no_key(stage: Stage, opens: OpenOffice, watch: Watch):
    office = await opens()
    body = form(b"x" * 1_000_000)
    _, writer = await office.gateway.connect()
    writer.write(upload_head(len(body)) + body[: len(body) // 2])
    await writer.drain()
    await until(lambda: office.kept("part") != [] and office.kept("part")[0].stat().st_blocks > 0)
    blocks = watch(office.kept("part")[0])

    writer.transport.abort()
    await until(lambda: office.archive.uploads == 0)

    assert not has_key(blocks)


async def test_a_deleted_input_is_destroyed_when_the_batch_that_uses_it_ends(
    stage: Stage, opens: OpenOffice, watch: Watch
):
    opened: dict[str, BinaryIO] = {}

    async def answer(call: Call) -> None:
        opened["log"] = watch(office.kept("log")[0])
        await say_hi(call)

    office: Office = await opens(await stage.replica(answer))
    async with office.openai() as client:
        made = await office.submit(client, a_line("a"))
        opened["input"] = watch(office.kept("input")[0])
        await client.files.delete(made.input_file_id)
        kept = has_key(opened["input"])
        done = await office.until_over(client, made.id)
        await until(lambda: office.kept("input") == [])

    assert kept
    assert done.status == "completed"
    assert {name: has_key(file) for name, file in opened.items()} == {"log": False, "input": False}


async def test_the_end_of_a_batch_leaves_an_input_that_nobody_deleted(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    async with office.openai() as client:
        made = await office.submit(client, a_line("a"))
        await office.until_over(client, made.id)

        assert (await client.files.content(made.input_file_id)).content == a_line("a")


async def test_a_result_that_is_written_again_leaves_no_key_of_the_first(opens: OpenOffice, watch: Watch):
    files = (await opens()).archive.files

    def write(content: bytes) -> None:
        writer = files.begin("blue", RECORD.id)
        writer.write(content)
        files.commit(writer, RECORD)

    write(b"first")
    blocks = watch(files.data_path("blue", RECORD.id))
    write(b"again")

    assert not has_key(blocks)
    assert list(files.read("blue", RECORD.id)) == [b"again"]


def test_of_two_names_the_last_takes_the_key_with_it(tmp_path: Path, watch: Watch):
    sealing = Sealing(NODE_KEY)
    writer = SealedWriter(tmp_path / "one", sealing, "name")
    writer.write(b"content")
    writer.finish()
    writer.close()
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    blocks = watch(tmp_path / "one")

    destroy(tmp_path / "one")
    first = list(read_sealed(tmp_path / "two", sealing, "name"))
    destroy(tmp_path / "two")

    assert first == [b"content"]
    assert not has_key(blocks)
    (tmp_path / "rest").write_bytes(os.pread(blocks.fileno(), 1 << 20, 0))
    with pytest.raises(Damaged):
        list(read_sealed(tmp_path / "rest", sealing, "name"))


class Overtaken(PosixPath):
    """A file that is replaced between its opening and its reading."""

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            if not self.with_name("overtaken").exists():
                self.with_name("overtaken").touch()
                Sealing(NODE_KEY).save(Path(self), "name", RECORD)
            return file.read()


def test_a_record_that_is_replaced_while_it_is_opened_is_read_as_the_new_one(tmp_path: Path):
    sealing = Sealing(NODE_KEY)
    sealing.save(tmp_path / "one", "name", RECORD)

    assert sealing.load(Overtaken(tmp_path / "one"), "name") is not None
