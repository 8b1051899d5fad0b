"""Each line of a batch is admitted by what its key may do when it is sent."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.gateway.batch.office import KEEPS, OpenOffice, a_line
from tests.gateway.stage import KEY, Call, Stage, key

THREE = a_line("a") + a_line("b") + a_line("c")


async def test_a_revoked_key_ends_its_batches(stage: Stage, opens: OpenOffice):
    async def slow(call: Call) -> None:
        await asyncio.sleep(0.05)
        await call.answer()

    replica = await stage.replica(slow)
    office = await opens(replica, lines_at_once=1)
    office.allow(keys=(key(KEY), key("rdk_other")))
    async with office.openai() as client, office.openai("rdk_other") as other:
        made = await office.submit(client, b"".join(a_line(f"{n}") for n in range(50)))
        while len(office.gateway.journal.outcomes) < 2:
            await office.leader.step()
            await asyncio.sleep(0.02)
        office.allow(keys=(key("rdk_other"),))
        done = await office.until_over(other, made.id)
        sent = len(replica.requests)
        good, bad = [await office.results(other, file) for file in (done.output_file_id, done.error_file_id)]

    assert done.status == "failed"
    assert done.errors is not None
    assert [fault.code for fault in done.errors.data or []] == ["key_not_valid"]
    assert len(good) == sent < 50
    assert set(good) | set(bad) == {f"{n}" for n in range(50)}


async def test_a_secret_that_was_renewed_does_not_end_a_batch(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, THREE)
    renewed = key("rdk_new").model_copy(update={"key_id": f"key_{KEY}"})
    office.allow(keys=(renewed,))
    async with office.openai("rdk_new") as client:
        done = await office.until_over(client, made.id)

    assert done.status == "completed"


@pytest.mark.parametrize(
    ("narrowed", "code"),
    [
        (key(KEY, purposes=("other",)), "purpose_not_allowed"),
        (key(KEY, classification=0), "classification_not_allowed"),
        (key(KEY, sources=("192.0.2.0/24",)), "address_not_allowed"),
        (key(KEY, expires_at=datetime.now(UTC) - timedelta(seconds=1)), "key_not_valid"),
    ],
)
async def test_a_key_that_may_do_less_ends_its_batches(stage: Stage, opens: OpenOffice, narrowed, code: str):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, THREE)
    office.allow(keys=(narrowed, key("rdk_other")))
    async with office.openai("rdk_other") as client:
        done = await office.until_over(client, made.id)

    assert done.errors is not None
    assert [fault.code for fault in done.errors.data or []] == [code]
    assert replica.requests == []


async def test_a_project_that_may_keep_nothing_any_more_ends_its_batches(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, THREE)
        office.allow(shares=(KEEPS.model_copy(update={"keeps_content": False}),))
        done = await office.until_over(client, made.id)

    assert done.status == "failed"
    assert replica.requests == []


async def test_results_stay_in_the_zone_of_their_endpoint(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    office.archive.zone = "elsewhere"
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, a_line("a"))).id)
        bad = await office.results(client, done.error_file_id)

    assert bad["a"]["error"]["code"] == "outside_zone"
    assert replica.requests == []
