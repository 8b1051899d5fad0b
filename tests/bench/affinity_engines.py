"""Engines with small caches behind real sockets: `python -m tests.bench.affinity_engines CACHE_TOKENS PORT...`."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from tests.bench.affinity_model import DECODE_S, PREFILL_S, Engine

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_WORD = b'data: {"id":"%b","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _serve(engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            await _answer(engine, await reader.readexactly(length), writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _answer(engine: Engine, body: bytes, writer: asyncio.StreamWriter) -> None:
    if not body:
        told = json.dumps({"data": [{"id": "chat", "object": "model"}], "object": "list", "status": "ok"}).encode()
        kind = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        writer.write(kind % (len(told), told))
        return
    ask = json.loads(body)
    now = asyncio.get_running_loop().time()
    tokens, cached = engine.read("".join(message["content"] for message in ask["messages"]).encode())
    engine.free_at_s = max(now, engine.free_at_s) + (tokens - cached) * PREFILL_S
    await asyncio.sleep(engine.free_at_s - now)
    writer.write(_HEAD)
    name = b"%d" % id(engine)
    most = ask.get("max_tokens") or ask["max_completion_tokens"]  # sglang-router writes the second
    for _ in range(most):
        writer.write(_chunk(_WORD % name))
        await asyncio.sleep(DECODE_S)
    usage = b'{"prompt_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d}}'
    last = b'data: {"id":"%b","choices":[],"usage":%b}\n\ndata: [DONE]\n\n' % (
        name,
        usage % (tokens, most, cached),
    )
    writer.write(_chunk(last) + b"0\r\n\r\n")


def _server(engine: Engine) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    return lambda reader, writer: _serve(engine, reader, writer)


async def main(cache_tokens: int, ports: list[int]) -> None:
    servers = [
        await asyncio.start_server(_server(Engine(cache_tokens)), "127.0.0.1", port, limit=2**20) for port in ports
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
