"""Lists open what they show and no more, and go on where they were whatever was deleted meanwhile."""

from pathlib import Path

import openai
import pytest

from controlplane.gateway.batch.records import FileRecord, new_file_id
from controlplane.gateway.batch.sealed import Sealing
from tests.gateway.batch.office import Office, OpenOffice
from tests.gateway.stage import Stage

DAY_S = 86_400


class CountedSealing(Sealing):
    loads = 0

    def load(self, path: Path, name: str) -> bytes | None:
        self.loads += 1
        return super().load(path, name)


@pytest.fixture
async def filled(stage: Stage, opens: OpenOffice) -> tuple[Office, list[str]]:
    """Return an office with thirty files, and their names, the newest first."""
    office = await opens()
    files, now_s = office.archive.files, office.archive.now_s()
    names = [new_file_id(now_s - n) for n in range(30)]
    for name in names:
        record = FileRecord(name, "blue", name, 0, "batch", 0, now_s, now_s + DAY_S)
        files.commit(files.begin("blue", name), record)
    return office, names


async def test_a_page_opens_no_more_than_it_shows(filled: tuple[Office, list[str]]):
    office, names = filled
    counted = office.archive.files.sealing = CountedSealing(b"k" * 32)
    async with office.openai() as client:
        page = await client.files.list(limit=3, after=names[9])

    assert [file.id for file in page.data] == names[10:13]
    assert page.has_more
    assert counted.loads == 4


async def test_a_list_goes_on_behind_a_file_that_was_deleted(filled: tuple[Office, list[str]]):
    office, names = filled
    async with office.openai() as client:
        await client.files.delete(names[9])
        behind = (await client.files.list(limit=2, after=names[9])).data
        before = (await client.files.list(limit=2, after=names[9], order="asc")).data

    assert [file.id for file in behind] == names[10:12]
    assert [file.id for file in before] == [names[8], names[7]]


async def test_a_page_is_bounded_whatever_is_asked_for(
    filled: tuple[Office, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controlplane.gateway.batch.file_verbs._MOST_SHOWN", 20)
    office, names = filled
    async with office.openai() as client:
        page = await client.files.list(limit=10_000)
        every = [file.id async for file in client.files.list(limit=10_000)]

    assert [file.id for file in page.data] == names[:20]
    assert every == names


@pytest.mark.parametrize("asked", ["nobody", "batch_" + "0" * 32, "file-" + "0" * 31])
async def test_a_name_that_is_none_is_nothing_to_go_on_after(filled: tuple[Office, list[str]], asked: str):
    office, _ = filled
    async with office.openai() as client:
        with pytest.raises(openai.NotFoundError, match="to go on after"):
            await client.files.list(after=asked)
