"""HTTP as hostile or hasty clients speak it."""

import asyncio
from contextlib import AsyncExitStack

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.stage import ASK, COMPLETION, KEY, STREAMED, Call, Stage, post

AUTH = b"Authorization: Bearer %b\r\n" % KEY.encode()
START = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + AUTH


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "request_bytes",
    [
        START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        START + b"Content-Length: 5, 5\r\n\r\nhello",
        START + b"Content-Length: -1\r\n\r\n",
        START + b"Content-Length: +5\r\n\r\nhello",
        START + b"Content-Length: 0x5\r\n\r\nhello",
        START + b"Content-Length : 5\r\n\r\nhello",
        START + b"Transfer-Encoding: identity\r\n\r\n",
        START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n000000000000000000005\r\nhello",
        START + AUTH + b"Content-Length: 5\r\n\r\nhello",
        START + b"Host: y\r\nContent-Length: 5\r\n\r\nhello",
        START + b"X-A: b\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
        START + b"X-A: b\nX-B: c\r\nContent-Length: 5\r\n\r\nhello",
        START + b"X-A: b\0\r\n\r\n",
        START + b"Bad Name: b\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\n" + AUTH + b"Content-Length: 5\r\n\r\nhello",
        b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST  /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
        b"\0\r\n\r\n",
    ],
)
async def test_a_request_that_two_readers_could_read_differently_is_400_and_the_end(stage: Stage, request_bytes: bytes):
    replica = await stage.replica()
    gateway = await stage.gateway(replica, linger_s=0.1)

    answer = await gateway.raw(request_bytes + post())

    assert status(answer) == 400
    assert answer.count(b"\r\nx-request-id: ") == 1
    assert b"\r\nconnection: close\r\n" in answer
    assert replica.requests == []


async def test_an_expectation_that_nobody_knows_is_417(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), linger_s=0.1)

    assert status(await gateway.raw(post(ASK, b"Expect: magic"))) == 417


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    reader, writer = await gateway.connect()
    writer.write(START + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(ASK))

    interim = await reader.readuntil(b"\r\n\r\n")
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()

    assert (status(interim), status(head)) == (100, 200)


async def test_a_client_that_asks_before_it_sends_with_a_wrong_key_sends_nothing(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), linger_s=0.1)
    asking = START.replace(KEY.encode(), b"wrong") + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"

    answer = await gateway.raw(asking)

    assert status(answer) == 401
    assert b" 100 " not in answer


async def test_pipelined_requests_are_answered_in_their_order(stage: Stage):
    async def echo(call: Call) -> None:
        await call.answer(call.request.body)

    gateway = await stage.gateway(await stage.replica(echo))
    asks = [ASK.replace(b"hello", b"number %d" % n) for n in range(20)]
    health = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"

    answer = await gateway.raw(b"".join(map(post, asks)) + health * 3 + post(ASK, b"Connection: close"))

    places = [answer.index(ask) for ask in asks]
    assert places == sorted(places)
    assert answer.count(b"HTTP/1.1 200 OK") == 24


async def test_a_flood_of_pipelined_requests_waits_its_turn(stage: Stage):
    gateway = await stage.gateway(await stage.replica(), held_bytes=2000)
    reader, writer = await gateway.connect()
    count = 400
    writer.write(post() * count)

    got = b""
    while got.count(COMPLETION) < count:
        got += await asyncio.wait_for(reader.read(1 << 20), 10)
    writer.close()

    assert got.count(b"HTTP/1.1 200 OK") == count


async def test_thousands_of_pipelined_health_checks_need_no_deep_stack(stage: Stage):
    gateway = await stage.gateway()

    answer = await gateway.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3000 + b"GET /livez HTTP/1.0\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200 OK") == 3001


async def test_a_chunked_body_is_read(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (ASK[:5], ASK[5:20], ASK[20:]))

    answer = await gateway.raw(
        START + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    )

    assert status(answer) == 200
    assert replica.requests[0].body == ASK


async def test_a_request_that_comes_byte_by_byte_is_the_same_request(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    reader, writer = await gateway.connect()
    for byte in post(ASK, b"Connection: close"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0)

    answer = await reader.read()
    writer.close()

    assert status(answer) == 200


async def test_an_old_client_gets_a_stream_that_ends_with_the_connection(stage: Stage):
    gateway = await stage.gateway(await stage.replica())

    answer = await gateway.raw(post(STREAMED).replace(b"HTTP/1.1", b"HTTP/1.0"))

    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HEAD /livez", 200),
        (b"HEAD /v1/models", 200),
        (b"OPTIONS /v1/chat/completions", 204),
        (b"DELETE /v1/models", 405),
        (b"GET /v1/chat/completions", 405),
        (b"PUT /livez", 405),
        (b"GET /", 404),
        (b"GET /v1/models/", 404),
        (b"GET /v1/models?limit=3", 200),
        (b"GET http://x/livez", 404),
        (b"CONNECT x:443", 404),
        (b"TRACE /livez", 405),
    ],
)
async def test_each_method_is_allowed_where_it_means_something(stage: Stage, line: bytes, expected: int):
    gateway = await stage.gateway()

    answer = await gateway.raw(line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + AUTH + b"\r\n")

    assert status(answer) == expected
    assert (answer.partition(b"\r\n\r\n")[2] == b"") == (line.startswith((b"HEAD", b"OPTIONS")))


async def test_an_offer_to_upgrade_is_ignored(stage: Stage):
    gateway = await stage.gateway(await stage.replica())

    answer = await gateway.raw(post(ASK, b"Connection: Upgrade, close", b"Upgrade: h2c"))

    assert status(answer) == 200


async def test_a_head_that_is_too_large_is_431(stage: Stage):
    gateway = await stage.gateway(linger_s=0.1)

    for head in (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"):
        assert status(await gateway.raw(head)) == 431


async def test_a_body_that_is_too_large_is_413_before_it_is_read(stage: Stage):
    gateway = await stage.gateway(linger_s=0.1, body_bytes=1000)

    declared = await gateway.raw(START + b"Content-Length: 1001\r\n\r\n" + b"x" * 500)
    chunks = (b"12c\r\n" + b"x" * 300 + b"\r\n") * 5
    undeclared = await gateway.raw(START + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

    assert [status(answer) for answer in (declared, undeclared)] == [413, 413]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'{"model":"chat"}',
        b'{"messages":[{}]}',
        b'{"model":"chat","messages":[]}',
        b'{"model":"chat","messages":{}}',
        b'{"model":7,"messages":[{}]}',
        b'{"model":"chat","messages":[{}],"stream":"yes"}',
        b'{"model":"chat","messages":[{}],"max_tokens":0}',
        b'{"model":"chat","messages":[{}],"max_tokens":1e99}',
        b'{"model":"chat","messages":[{}],"store":true}',
        b'{"model":"chat","messages":[{"content":"\xff"}]}',
        b'{"model":"chat","messages":[{}]',
        b'{"model":"chat","messages":[{}]}{}',
        b'{"model":"chat","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
async def test_a_body_that_is_no_chat_request_is_400_and_the_connection_lives(stage: Stage, body: bytes):
    replica = await stage.replica()
    gateway = await stage.gateway(replica, linger_s=0.1)

    answer = await gateway.raw(post(body) + post(ASK, b"Connection: close"))

    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert len(replica.requests) == 1


async def test_a_head_that_dawdles_is_408(stage: Stage):
    gateway = await stage.gateway(head_s=0.1, linger_s=0.1)

    assert status(await gateway.raw(b"GET /livez HTTP/1.1\r\n")) == 408


async def test_a_body_that_dawdles_is_408(stage: Stage):
    gateway = await stage.gateway(body_s=0.1, linger_s=0.1)

    assert status(await gateway.raw(START + b"Content-Length: 100\r\n\r\n{")) == 408


async def test_a_connection_that_says_nothing_is_closed_without_a_word(stage: Stage):
    gateway = await stage.gateway(head_s=0.1, idle_s=0.1)

    silent = await gateway.raw(b"")
    done = await gateway.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")

    assert silent == b""
    assert done.count(b"HTTP/1.1") == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=300), place=st.integers(0, 300), cut=st.booleans())
def test_noise_inside_a_request_never_sticks_a_connection(noisy_gateway, noise: bytes, place: int, cut: bool):
    request = post(ASK, b"Connection: close")
    data = request[:place] + noise + (b"" if cut else request[place:])

    answer = noisy_gateway(data)

    assert answer == b"" or status(answer) in {200, 400, 401, 404, 405, 408, 413, 417, 431, 503}


@pytest.fixture
def noisy_gateway(gateway_files):
    """One gateway for all examples, driven from a test that Hypothesis runs without a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        stage = Stage(gateway_files, stack)

        async def start():
            return await stage.gateway(await stage.replica(), head_s=0.05, body_s=0.05, idle_s=0.05, linger_s=0.05)

        gateway = runner.run(start())
        yield lambda data: runner.run(gateway.raw(data))
        runner.run(stack.aclose())
