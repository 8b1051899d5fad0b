"""/v1/batches: what is asked for is done, once, by the rules that hold while it is done."""

import asyncio
import json

import msgspec
import openai
import pytest

from controlplane.gateway.batch.leader import Leader
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.batch.result_log import Entry, LogFile
from controlplane.gateway.errors import Refusal
from tests.gateway.batch.office import KEEPS, Office, OpenOffice, a_line, counts, until
from tests.gateway.stage import KEY, Call, ScriptedReplica, Stage, key, say_hi


def has_sent(replica: ScriptedReplica, number: int) -> bool:
    return len(replica.requests) == number


def died_over(office: Office, batch_id: str, *, times: int) -> None:
    """Write what gateways leave that die while the first line is under way."""
    path = office.archive.files.folder("blue") / f"{batch_id}.log"
    file = LogFile(path, office.archive.files.sealing, batch_id)
    assert list(file.open()) == []
    file.append([Entry("begun", 1)] * times)
    file.close()


THREE = a_line("a") + a_line("b") + a_line("c")


async def test_a_batch_is_done_and_its_results_come_by_name(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, THREE, metadata={"for": "the test"})
        done = await office.until_over(client, made.id)
        results = await office.results(client, done.output_file_id)
        output = await client.files.retrieve(done.output_file_id or "")

    assert (made.status, made.metadata) == ("validating", {"for": "the test"})
    assert done.status == "completed"
    assert counts(done) == (3, 3, 0)
    assert done.error_file_id is None
    assert set(results) == {"a", "b", "c"}
    assert results["b"]["response"]["status_code"] == 200
    assert results["b"]["response"]["body"]["choices"][0]["message"]["content"] == "hi"
    assert output.purpose == "batch_output"
    assert len(replica.requests) == 3


async def test_every_line_is_budgeted_recorded_and_of_the_lowest_class(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    async with office.openai(default_headers={"x-redoubt-workflow": "nightly"}) as client:
        await office.until_over(client, (await office.submit(client, THREE)).id)

    intents, outcomes = office.gateway.journal.intents, office.gateway.journal.outcomes
    assert [(i.priority, i.workflow, i.key, i.project) for i in intents] == [
        ("batch", "nightly", f"key_{KEY}", "blue")
    ] * 3
    assert len({i.step for i in intents}) == 3  # the same prompt twice is no retry
    assert [o.result for o in outcomes] == ["answered"] * 3


async def test_what_is_wrong_with_a_line_is_in_the_error_file(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    lines = a_line("good") + a_line("odd", cache_salt="x") + a_line("typed", temperature="hot")
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, lines)).id)
        good, bad = [await office.results(client, file) for file in (done.output_file_id, done.error_file_id)]

    assert (done.status, counts(done)) == ("completed", (3, 1, 2))
    assert set(good) == {"good"}
    assert {name: line["error"]["code"] for name, line in bad.items()} == {
        "odd": "field_not_allowed",
        "typed": "bad_request",
    }


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n \n\r\n", "empty_file", None),
        (a_line("a") + b"not json\n", "invalid_json_line", 2),
        (a_line("a") + b"\xff\xfe\n", "invalid_json_line", 2),
        (b"[" * 100_000, "invalid_json_line", 1),
        (b'{"custom_id":"a"}', "invalid_json_line", 1),
        (a_line("a") + a_line("b") + a_line("a"), "duplicate_custom_id", 3),
        (a_line("a") + a_line("b", model="hidden"), "mismatched_model", 2),
        (a_line("a", url="/v1/embeddings"), "invalid_url", 1),
        (a_line("a", stream=True), "invalid_request", 1),
        (a_line("x" * 513), "invalid_json_line", 1),
        (a_line("a").replace(b"POST", b"GET"), "invalid_method", 1),
        (b"".join(a_line(str(n)) for n in range(21)), "too_many_lines", None),
        (a_line("a") + a_line("b", user="x" * 20_000), "line_too_long", None),
    ],
)
async def test_a_file_that_is_no_batch_fails_before_anything_is_sent(
    stage: Stage, opens: OpenOffice, content: bytes, code: str, line: int | None
):
    replica = await stage.replica()
    office = await opens(replica, lines=20, line_bytes=110_000 if content[:1] == b"[" else 10_000)
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, content)).id)

    assert done.status == "failed"
    assert done.errors is not None
    assert [(fault.code, fault.line) for fault in done.errors.data or []] == [(code, line)]
    assert done.output_file_id is done.error_file_id is None
    assert replica.requests == []
    await until(lambda: office.kept("input") == office.kept("log") == [])


async def test_a_byte_order_mark_empty_lines_and_carriage_returns_are_no_fault(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    content = b"\xef\xbb\xbf" + a_line("a").replace(b"\n", b"\r\n") + b"\r\n\n" + a_line("b").rstrip()
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, content)).id)
        results = await office.results(client, done.output_file_id)

    assert set(results) == {"a", "b"}


async def test_an_engine_cannot_write_lines_of_its_own(stage: Stage, opens: OpenOffice):
    async def forge(call: Call) -> None:
        await call.answer(b'{"text":\n\r\n{"custom_id":"forged"}\n}\n')

    office = await opens(await stage.replica(forge))
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, a_line("a"))).id)
        raw = (await client.files.content(done.output_file_id or "")).content

    assert raw.count(b"\n") == 1
    assert json.loads(raw)["response"]["body"] == {"text": {"custom_id": "forged"}}


async def test_an_answer_that_is_no_json_is_an_error(stage: Stage, opens: OpenOffice):
    async def babble(call: Call) -> None:
        await call.answer(b'{"a":1}}\n{"custom_id":"x"}')

    office = await opens(await stage.replica(babble))
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, a_line("a"))).id)
        bad = await office.results(client, done.error_file_id)

    assert counts(done) == (1, 0, 1)
    assert bad["a"]["error"]["code"] == "replica_failed"


async def test_a_cancelled_batch_keeps_what_was_done(stage: Stage, opens: OpenOffice):
    gate = asyncio.Event()

    async def first_only(call: Call) -> None:
        if b"say a" not in call.request.body:
            await gate.wait()
        await call.answer()

    office = await opens(await stage.replica(first_only), lines_at_once=2)
    async with office.openai() as client:
        made = await office.submit(client, b"".join(a_line(name) for name in "abcdefgh"))
        while len(office.gateway.journal.outcomes) < 1:
            await office.leader.step()
            await asyncio.sleep(0.02)
        cancelling = await client.batches.cancel(made.id)
        await office.leader.step()
        gate.set()
        done = await office.until_over(client, made.id)
        results = await office.results(client, done.output_file_id)
        with pytest.raises(openai.ConflictError):
            await client.batches.cancel(made.id)

    assert (cancelling.status, done.status) == ("cancelling", "cancelled")
    assert done.cancelled_at is not None
    assert "a" in results
    assert len(results) == counts(done)[1] < 8
    await until(lambda: office.kept("cancel") == office.kept("input") == [])


async def test_a_batch_whose_time_runs_out_says_which_lines_were_not_done(stage: Stage, opens: OpenOffice):
    office = await opens()  # the endpoint has no replica
    async with office.openai() as client:
        made = await office.submit(client, THREE)
        state = office.kept("state")[0]
        await office.leader.step()
        record = office.archive.batches.load(state)
        assert record is not None
        await office.leader.close()
        office.archive.batches.save(msgspec.structs.replace(record, expires_at=record.created_at))
        done = await office.until_over(client, made.id)
        bad = await office.results(client, done.error_file_id)

    assert (done.status, done.output_file_id) == ("expired", None)
    assert {line["error"]["code"] for line in bad.values()} == {"batch_expired"}
    assert set(bad) == {"a", "b", "c"}


async def test_a_line_waits_for_a_replica_and_for_budget(stage: Stage, opens: OpenOffice):
    class Exhausted(Refusal):
        status = 429
        kind = "budget_exhausted"

    class Purse:
        def __init__(self, own) -> None:
            self.own = own
            self.left = 0

        def clear(self, request, asking):
            if not self.left:
                raise Exhausted("the budget is spent", remedy="wait until tomorrow")
            self.left -= 1
            return self.own.clear(request, asking)

        def sweep(self, now_s: float) -> None:
            self.own.sweep(now_s)

    office = await opens(await stage.replica(), shortest_wait_s=0.02, counts_s=0.0)
    hub = office.gateway.hub
    purse = hub.budgets = Purse(hub.budgets)
    async with office.openai() as client:
        made = await office.submit(client, THREE)
        waiting = await office.until_waiting(client, made.id)
        purse.left = 100
        done = await office.until_over(client, made.id)

    assert waiting.status == "in_progress"
    assert waiting.model_dump()["waiting"]["code"] == "budget_exhausted"
    assert (done.status, counts(done)) == ("completed", (3, 3, 0))


async def test_a_line_that_loses_its_replicas_is_given_up_and_the_others_are_done(stage: Stage, opens: OpenOffice):
    async def die_of_b(call: Call) -> None:
        if b"say b" in call.request.body:
            call.die()
        else:
            await say_hi(call)

    office = await opens(await stage.replica(die_of_b), shortest_wait_s=0.01)
    async with office.openai() as client:
        done = await office.until_over(client, (await office.submit(client, THREE)).id)
        bad = await office.results(client, done.error_file_id)

    assert counts(done) == (3, 2, 1)
    assert set(bad) == {"b"}


async def test_a_project_sees_and_cancels_its_own_batches_alone(stage: Stage, opens: OpenOffice):
    office = await opens()
    green = key("rdk_green").model_copy(update={"project": "green"})
    office.allow(keys=(key(KEY), green), shares=(KEEPS, KEEPS.model_copy(update={"name": "green"})))
    async with office.openai() as ours, office.openai("rdk_green") as theirs:
        made = await office.submit(ours, THREE)
        for call in (theirs.batches.retrieve, theirs.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                await call(made.id)
        with pytest.raises(openai.NotFoundError):
            await theirs.batches.create(
                input_file_id=made.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )

        assert [batch.id async for batch in theirs.batches.list()] == []
        assert [batch.id async for batch in ours.batches.list(limit=1)] == [made.id]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"endpoint": "/v1/audio"}, "endpoint is none of"),
        ({"completion_window": "1y"}, "completion_window"),
        ({"completion_window": "999h"}, "completion_window"),
        ({"metadata": {"k" * 65: "v"}}, "length"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"extra_body": {"priority": 1}}, "unknown field"),
    ],
)
async def test_what_a_batch_may_not_be_is_refused(stage: Stage, opens: OpenOffice, changed: dict, said: str):
    office = await opens()
    async with office.openai() as client:
        with pytest.raises(openai.BadRequestError, match=said):
            await office.submit(client, THREE, **changed)

    assert office.kept("state") == []


async def test_a_deleted_input_does_not_stop_the_batch_that_uses_it(stage: Stage, opens: OpenOffice):
    office = await opens(await stage.replica())
    async with office.openai() as client:
        made = await office.submit(client, THREE)
        await client.files.delete(made.input_file_id)
        done = await office.until_over(client, made.id)

    assert (done.status, counts(done)) == ("completed", (3, 3, 0))


async def test_of_two_workers_one_does_the_batches_and_the_other_takes_over(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    second = Leader(office.gateway.hub, office.archive)
    async with office.openai() as client:
        await office.leader.step()
        made = await office.submit(client, THREE)
        for _ in range(5):
            await second.step()
        untouched = await client.batches.retrieve(made.id)
        await office.leader.close()
        office.leader = second
        done = await office.until_over(client, made.id)

    assert untouched.status == "validating"
    assert done.status == "completed"
    assert len(replica.requests) == 3


async def test_a_full_disk_stops_new_lines_until_there_is_room(stage: Stage, opens: OpenOffice):
    replica = await stage.replica()
    office = await opens(replica)
    async with office.openai() as client:
        made = await office.submit(client, THREE)
        office.archive.limits = BatchLimits(free_bytes=2**60, counts_s=0.0)
        waiting = await office.until_waiting(client, made.id)
        sent = len(replica.requests)
        office.archive.limits = BatchLimits(free_bytes=0)
        done = await office.until_over(client, made.id)

    assert sent == 0
    assert (waiting.status, waiting.model_dump()["waiting"]["code"]) == ("in_progress", "disk_full")
    assert done.status == "completed"


async def test_a_line_that_gateways_die_over_is_given_up(stage: Stage, opens: OpenOffice):
    replica = await stage.replica(lambda call: call.until_hung_up())
    office = await opens(replica, starts=2)
    async with office.openai() as client:
        made = await office.submit(client, a_line("poison"))
        died_over(office, made.id, times=2)
        done = await office.until_over(client, made.id)
        bad = await office.results(client, done.error_file_id)

    assert bad["poison"]["error"]["code"] == "gateway_died"
    assert replica.requests == []


async def test_nothing_of_a_batch_can_be_read_from_the_disk(stage: Stage, opens: OpenOffice):
    async def tell(call: Call) -> None:
        await call.answer(b'{"answer":"Ragnhild is well"}')

    office = await opens(await stage.replica(tell))
    async with office.openai() as client:
        made = await office.submit(client, a_line("Ragnhild"), metadata={"who": "Ragnhild"})
        await office.until_over(client, made.id)

    assert not office.is_told(b"Ragnhild")
    assert not office.is_told(b"chat")
