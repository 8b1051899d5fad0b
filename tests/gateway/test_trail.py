"""An intent before, an outcome after: whatever becomes of a request, the journal tells of it."""

import asyncio

import pytest

from controlplane.gateway.records import Intent
from tests.gateway.stage import ASK, KEY, STREAMED, Call, Gateway, ScriptedReplica, Stage, key, post, say_hi


@pytest.fixture
async def replica(stage: Stage) -> ScriptedReplica:
    return await stage.replica()


@pytest.fixture
async def gateway(stage: Stage, replica: ScriptedReplica) -> Gateway:
    return await stage.gateway(replica)


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited happens on another connection
            await asyncio.sleep(0.005)


async def test_an_answer_has_its_intent_and_its_outcome(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support",), classification=2),))

    answer = await gateway.chat(headers={"X-Redoubt-Classification": "internal"})

    (intent,), (outcome,) = gateway.journal.intents, gateway.journal.outcomes
    assert intent.request == outcome.request == answer.headers["x-request-id"]
    assert (intent.key, intent.project, intent.endpoint, intent.zone) == (f"key_{KEY}", "blue", "chat", "eu-north")
    assert (intent.purpose, intent.classification, intent.source) == ("support", 1, "127.0.0.1")
    assert (intent.snapshot, intent.bytes_in, intent.streamed) == (gateway.version, len(ASK), False)
    assert (outcome.result, outcome.status, outcome.replica) == ("answered", 200, "replica_a")
    assert outcome.bytes_out == len(answer.content)


async def test_nothing_of_a_prompt_or_an_answer_is_told(gateway, replica):
    await gateway.chat()
    await gateway.chat(STREAMED)

    told = repr((gateway.journal.intents, gateway.journal.notes))
    assert not any(word in told for word in ("hello", "assistant", "two"))
    assert KEY not in told.replace(f"key_{KEY}", "").replace(f"secret_{KEY}", "")


async def test_no_replica_hears_of_a_request_before_its_intent_is_durable(gateway, replica):
    gateway.journal.holds = True
    asking = asyncio.create_task(gateway.chat())
    await until(lambda: gateway.journal.waiting)
    await asyncio.sleep(0.05)
    assert replica.requests == []

    gateway.journal.waiting.pop().recorded()

    assert (await asking).status_code == 200
    assert len(replica.requests) == 1


async def test_what_cannot_be_written_down_is_refused_in_words_that_tell_nothing(gateway, replica):
    gateway.journal.fails = True
    refused = await gateway.chat()
    gateway.journal.fails = False

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], replica.requests) == (503, "not_recorded", [])
    assert not any(word in error["message"] for word in ("disk", "spool", "audit", "journal"))
    assert (await gateway.chat()).status_code == 200


async def test_a_disk_that_hangs_refuses_after_a_while_and_a_late_word_from_it_starts_nothing(stage, replica):
    gateway = await stage.gateway(replica, intent_s=0.05)
    gateway.journal.holds = True

    answer = await gateway.chat()
    gateway.journal.waiting.pop().recorded()
    await asyncio.sleep(0.05)

    assert (answer.status_code, replica.requests) == (503, [])
    assert [outcome.result for outcome in gateway.journal.outcomes] == ["failed"]


async def test_a_client_that_leaves_before_its_intent_is_durable_reaches_no_replica(gateway, replica):
    gateway.journal.holds = True
    _, writer = await gateway.connect()
    writer.write(post())
    await until(lambda: gateway.journal.waiting)
    writer.transport.abort()
    await until(lambda: gateway.journal.outcomes)
    gateway.journal.waiting.pop().recorded()
    await asyncio.sleep(0.05)

    assert replica.requests == []
    assert gateway.journal.outcomes[0].result == "cancelled"


async def test_tokens_are_told_where_the_replica_tells_them(gateway, replica):
    async def with_usage(call: Call) -> None:
        usage = b'{"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16}}'
        if b"stream" not in call.request.body:
            await call.answer(usage)
            return
        await call.begin_stream()
        await call.event("one")
        await call.chunk(b"data: " + usage + b"\n\n")
        await call.end_stream()

    replica.script = with_usage
    await gateway.chat()
    await gateway.chat(STREAMED)
    replica.script = say_hi
    await gateway.chat()

    counts = [(outcome.tokens_in, outcome.tokens_out) for outcome in gateway.journal.outcomes]
    assert counts == [(11, 5), (11, 5), (None, None)]


async def die_early(call: Call) -> None:
    call.die()


async def die_in_stream(call: Call) -> None:
    await call.begin_stream()
    await call.event("one")
    call.die()


async def refuse(call: Call) -> None:
    await call.answer(b'{"error":{"message":"no"}}', "400 Bad Request")


@pytest.mark.parametrize(
    ("script", "body", "status", "code"),
    [
        (die_early, ASK, 502, "replica_lost"),
        (die_in_stream, STREAMED, 200, "replica_lost"),
        (refuse, ASK, 400, "bad_request"),
    ],
)
async def test_a_request_that_fails_has_one_outcome_that_says_how(gateway, replica, script, body, status, code):
    replica.script = script
    await gateway.raw(post(body, b"Connection: close"))

    (outcome,) = gateway.journal.outcomes
    assert (outcome.result, outcome.status, outcome.code) == ("failed", status, code)


async def test_a_client_that_hangs_up_in_a_stream_has_an_outcome(gateway, replica):
    async def endless(call: Call) -> None:
        await call.begin_stream()
        while not call.writer.is_closing():
            await call.event("word")
            await asyncio.sleep(0.01)

    replica.script = endless
    reader, writer = await gateway.connect()
    writer.write(post(STREAMED))
    await reader.readuntil(b"word")
    writer.transport.abort()
    await until(lambda: gateway.journal.outcomes)

    (outcome,) = gateway.journal.outcomes
    assert (outcome.result, outcome.status) == ("cancelled", 499)
    assert outcome.bytes_out > 0


async def test_a_client_that_leaves_when_it_has_all_but_the_usage_is_metered_by_what_it_was_sent(gateway, replica):
    gone = asyncio.Event()

    async def all_but_the_usage(call: Call) -> None:
        await call.begin_stream()
        for word in ("one", "two", "three"):
            await call.event(word)
        await gone.wait()

    replica.script = all_but_the_usage
    reader, writer = await gateway.connect()
    writer.write(post(STREAMED))
    await reader.readuntil(b"three")
    writer.transport.abort()
    await until(lambda: gateway.journal.outcomes)
    gone.set()

    (outcome,) = gateway.journal.outcomes
    assert (outcome.result, outcome.estimated) == ("cancelled", True)
    assert (outcome.tokens_out, outcome.tokens_in) == (3, len(STREAMED) // 4)


async def test_what_a_replica_told_is_not_estimated(gateway, replica):
    async def told(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await call.chunk(b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":5}}\n\n')
        await call.end_stream()

    replica.script = told
    await gateway.chat(STREAMED)

    (outcome,) = gateway.journal.outcomes
    assert (outcome.estimated, outcome.tokens_in, outcome.tokens_out) == (False, 11, 5)


async def test_without_a_replica_there_is_still_an_intent_and_an_outcome(gateway):
    await gateway.chat(ASK.replace(b'"chat"', b'"empty"'))

    assert [type(line) for line in gateway.journal.intents] == [Intent]
    assert [outcome.code for outcome in gateway.journal.outcomes] == ["no_ready_replica"]


async def test_who_is_not_let_in_has_no_intent(gateway):
    await gateway.chat(headers={"authorization": "Bearer rdk_wrong"})
    await gateway.chat(ASK.replace(b'"chat"', b'"nowhere"'))

    assert gateway.journal.intents == []
