"""Clients that mean harm: huge, deep, slow, many, or with somebody else's words in theirs."""

import asyncio
import json
import resource
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.gateway.stage import ASK, KEY, STREAMED, Call, Gateway, Stage, key, post

MANY = 1500
START = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n" % KEY.encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@asynccontextmanager
async def connections(gateway: Gateway, count: int):
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            reader, writer = await gateway.connect()
            stack.callback(writer.transport.abort)
            opened.append((reader, writer))
        yield opened


async def until_alone(gateway: Gateway) -> None:
    async with asyncio.timeout(5):
        while gateway.hub.connections:  # noqa: ASYNC110 - they end by the sweep
            await asyncio.sleep(0.02)


async def test_a_body_of_64_megabytes_is_413_and_is_not_kept(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), linger_s=0.2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    declared = await gateway.raw(START + b"Content-Length: 67108864\r\n\r\n{")
    reader, writer = await gateway.connect()
    writer.write(START + b"Transfer-Encoding: chunked\r\n\r\n")
    block = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    for _ in range(1024):
        if writer.transport.is_closing():
            break
        writer.write(block)
        await asyncio.sleep(0)
    undeclared = await asyncio.wait_for(reader.read(1000), 10)
    writer.transport.abort()

    assert [status(answer) for answer in (declared, undeclared)] == [413, 413]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1024  # the test's own 64 MB are in it


@pytest.mark.parametrize("depth", [1_100, 100_000])
@pytest.mark.parametrize("field", ["messages", "tools", "stop", "nowhere"])
async def test_json_that_is_nested_too_deep_is_400_wherever_it_stands(stage: Stage, field: str, depth: int):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    deep = b"[" * depth + b"]" * depth
    body = b'{"model":"chat","messages":[{"role":"user","content":"x"}],"%b":%b}' % (field.encode(), deep)

    response = await gateway.chat(body)

    assert (response.status_code, replica.requests) == (400, [])
    assert (await gateway.chat()).status_code == 200


async def test_hundreds_of_clients_that_drip_hold_nobody_up(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), head_s=2.0, body_s=2.0, linger_s=0.1)
    async with connections(gateway, 300) as slow:
        for number, (_, writer) in enumerate(slow):
            writer.write(b"POST /v1/ch" if number % 2 else START + b'Content-Length: 100\r\n\r\n{"model"')
        answered = (await gateway.chat()).status_code
        for _ in range(12):
            for _, writer in slow:
                writer.write(b" ")
            await asyncio.sleep(0.1)
        answers = [await asyncio.wait_for(reader.read(), 10) for reader, _ in slow]

    assert answered == 200
    assert {status(answer) for answer in answers} == {408}
    await until_alone(gateway)


async def test_thousands_of_idle_connections_cost_nobody_anything_and_end(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), head_s=3.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * MANY), hard))
    try:
        async with connections(gateway, MANY) as idle:
            statuses = [(await gateway.chat()).status_code for _ in range(5)]
            silent = [await asyncio.wait_for(reader.read(), 20) for reader, _ in idle]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert statuses == [200] * 5
    assert set(silent) == {b""}
    await until_alone(gateway)


async def test_a_client_that_closes_its_half_is_closed_and_its_work_ends(stage: Stage):
    async def wait(call: Call) -> None:
        asked.set()
        await call.until_hung_up()
        hung_up.set()

    asked, hung_up = asyncio.Event(), asyncio.Event()
    gateway = await stage.gateway(await stage.replica(wait))
    reader, writer = await gateway.connect()
    writer.write(post())
    await asyncio.wait_for(asked.wait(), 5)

    writer.write_eof()

    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.transport.abort()
    await asyncio.wait_for(hung_up.wait(), 5)
    assert [outcome.result for outcome in gateway.journal.outcomes] == ["cancelled"]


@pytest.mark.parametrize("half", [b"", b"POST /v1", START, START + b"Content-Length: 9\r\n\r\n{"])
async def test_half_a_request_and_half_a_connection_are_closed(stage: Stage, half: bytes):
    gateway = await stage.gateway(await stage.replica())

    assert await gateway.raw(half, half_close=True) == b""
    assert gateway.journal.intents == []


async def test_nothing_that_a_client_says_gets_into_the_head_that_an_engine_reads(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    lines = (b"X-Redoubt-Run: run1", b"X-Request-Id: mine", b"X-Forwarded-For: evil", b"Cookie: a=b", b"TE: trailers")

    answer = await gateway.raw(post(ASK, *lines, b"Connection: close"))

    head = replica.requests[0].head.lower()
    names = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:] if line}
    assert status(answer) == 200
    assert names == {b"host", b"content-type", b"x-request-id", b"content-length"}
    assert not any(word in head for word in (b"evil", b"mine", b"run1", KEY.encode()))


async def test_an_engines_words_cannot_begin_an_event_or_a_header(stage: Stage):
    message = 'bad\r\n\r\ndata: {"choices":[]}\n\nX-Evil: 1\r\n'

    async def refuse(call: Call) -> None:
        body = json.dumps({"error": {"message": message}}).encode()
        await call.answer(body, "400 Bad Request", extra=b"X-Evil: 1\r\nX-Redoubt-Zone: elsewhere\r\n")

    gateway = await stage.gateway(await stage.replica(refuse), heartbeat_s=60)

    for body in (ASK, STREAMED):
        response = await gateway.chat(body)

        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(message.rstrip())
        assert b"\n" not in response.content.strip()
        assert "x-evil" not in response.headers
        assert response.headers.get("x-redoubt-zone", "eu-north") == "eu-north"


async def test_an_engine_cannot_answer_the_next_request_on_its_link(stage: Stage):
    async def two_answers(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        await call.send(b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    gateway = await stage.gateway(await stage.replica(two_answers))

    answers = [await gateway.raw(post(STREAMED) + post(STREAMED, b"Connection: close")) for _ in range(3)]

    assert not any(b"secret" in answer for answer in answers)
    assert all(answer.count(b"HTTP/1.1 200 OK") == 2 for answer in answers)


async def test_an_event_without_end_is_an_error_and_not_our_memory(stage: Stage):
    async def never_end(call: Call) -> None:
        await call.begin_stream()
        await call.event("one")
        for _ in range(200):
            await call.chunk(b"data: " + b"x" * 16_000)

    gateway = await stage.gateway(await stage.replica(never_end), event_bytes=100_000)

    answer = await gateway.raw(post(STREAMED))

    assert b"replica_lost" in answer
    assert b"xxx" not in answer


async def test_one_key_cannot_fill_the_memory_with_bodies_that_it_does_not_end(stage: Stage):
    gateway = await stage.gateway(
        await stage.replica(), bodies_of_key_bytes=1_000_000, bodies_bytes=1_500_000, linger_s=0.1
    )
    other = "rdk_other"
    gateway.adopt(*(r.spec for r in gateway.hub._replicas.values()), keys=(key(KEY), key(other), key("rdk_third")))  # noqa: SLF001 - the same ones

    async with connections(gateway, 2) as held:
        for _, writer in held:
            writer.write(START + b"Content-Length: 490000\r\n\r\n" + b"x" * 100_000)
        await asyncio.sleep(0.2)
        more = await gateway.raw(START + b"Content-Length: 490000\r\n\r\n{")
        chunked = await gateway.raw(START + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b"x" * 131_072 + b"\r\n")
        small = await gateway.chat()
        theirs = START.replace(KEY.encode(), other.encode()) + b"Content-Length: 400000\r\n\r\n"
        _, writer = await gateway.connect()
        writer.write(theirs + b"{")
        await asyncio.sleep(0.1)
        of_all = await gateway.raw(theirs.replace(other.encode(), b"rdk_third") + b"{")
        writer.transport.abort()
    await until_alone(gateway)

    assert [status(answer) for answer in (more, chunked, of_all)] == [503] * 3
    assert b"too_much_at_once" in more
    assert small.status_code == 200
    assert (await gateway.chat(ASK.replace(b"hello", b"x" * 400_000))).status_code == 200


async def test_a_large_body_is_counted_until_its_answer_is_complete(stage: Stage):
    async def wait(call: Call) -> None:
        asked.set()
        await go_on.wait()
        await call.answer()

    asked, go_on = asyncio.Event(), asyncio.Event()
    gateway = await stage.gateway(await stage.replica(wait), bodies_of_key_bytes=1_000_000, linger_s=0.1)
    large = ASK.replace(b"hello", b"x" * 600_000)
    first = asyncio.create_task(gateway.chat(large))
    await asked.wait()

    second = await gateway.chat(large)
    go_on.set()
    statuses = [(await first).status_code, second.status_code, (await gateway.chat(large)).status_code]

    assert statuses == [200, 503, 200]
