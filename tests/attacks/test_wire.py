"""What only a real connection shows: heads without end, heads that drip, bodies after their answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn

from controlplane.main.api import make_server
from controlplane.main.leaves import Leaves
from controlplane.main.settings import Listen
from controlplane.web.peer import PeerProtocol


class Impatient(PeerProtocol):
    head_s = 0.3
    rest_s = 0.3


async def at_once(scope, receive, send) -> None:
    """Answer without reading what was sent."""
    del receive
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        at_once, host="127.0.0.1", port=0, http=Impatient, loop="none", lifespan="off", log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    await server.shutdown()


async def say(port: int, *parts: bytes) -> bytes:
    """Send, then read until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


ASK = b"GET /livez HTTP/1.1\r\nHost: api\r\n"


async def say_who(scope, receive, send) -> None:
    """Answer with the address that the application takes for the source."""
    del receive
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['scheme']} from {scope['client'][0]}".encode()})


async def test_a_header_does_not_say_where_a_request_comes_from():
    server = make_server(say_who, Listen(host="127.0.0.1", port=0), Leaves(), machine=False)  # type: ignore[arg-type]  # a bare application
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    forged = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
    answer = await say(port, ASK + forged + b"Connection: close\r\n\r\n")
    await server.shutdown()

    assert b"http from 127.0.0.1" in answer


async def test_a_plain_request_is_answered(port: int):
    assert (await say(port, ASK + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        ASK + b"".join(b"x-%d: 1\r\n" % i for i in range(200)) + b"\r\n",
        ASK + b"x: " + b"a" * (64 << 10) + b"\r\n\r\n",
        b"GET /" + b"a" * (64 << 10) + b" HTTP/1.1\r\nHost: api\r\n\r\n",
        ASK + b"x: a\0b\r\n\r\n",
        ASK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ASK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ASK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
)
async def test_a_head_that_is_too_much_or_ambiguous_ends_the_connection(port: int, head: bytes):
    assert b" 200 " not in await say(port, head)


@pytest.mark.parametrize("part", [b"", b"GET ", ASK + b"x: "])
async def test_a_head_that_does_not_come_ends_the_connection(port: int, part: bytes):
    async with asyncio.timeout(20):
        assert await say(port, part) == b""


async def test_a_body_that_still_drips_after_its_answer_ends_the_connection(port: int):
    async with asyncio.timeout(20):
        answer = await say(port, b"POST /livez HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\n", b"a", b"b")
    assert answer.startswith(b"HTTP/1.1 200")
