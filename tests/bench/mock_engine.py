"""An inference server that costs almost nothing: `python -m tests.bench.mock_engine PORT TLS_PORT PEM CA`.

Answers at once, or streams EVENTS events, one every EVENT_S, as engines send them; a prompt that holds SLOW gets one
event a second until its client leaves. The words of a stream differ: LiteLLM ends one that repeats itself.
"""

import asyncio
import ssl
import sys
from typing import cast

import uvloop

EVENTS = 50
EVENT_S = 0.01
PLACES = ("127.0.0.1", "127.0.0.2")  # two replicas
SLOW = b"hold this stream"
_SLOW_S = 1.0
_COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"chat","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"word " * 40 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":120,"completion_tokens":40,"total_tokens":160}}'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
PLAIN = _HEAD % (len(_COMPLETION), _COMPLETION)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(number: int) -> bytes:
    payload = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"chat",'
        b'"choices":[{"index":0,"delta":{"content":" word%d"},"finish_reason":null}]}\n\n' % number
    )
    return b"%x\r\n%b\r\n" % (len(payload), payload)


STREAM = [_event(number) for number in range(EVENTS)]
_SMALL = {
    b"/v1/models": b'{"object":"list","data":[{"id":"chat","object":"model","created":1,"owned_by":"bench"}]}',
    b"/get_model_info": b'{"model_path":"chat","is_generation":true}',
    b"/get_server_info": b'{"model_path":"chat","served_model_name":"chat"}',
}
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Engine(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = b""
        self._sent = 0
        self._pause_s = EVENT_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        end = data.find(b"\r\n\r\n") + 4
        place = data.lower().find(b"content-length: ")
        length = int(data[place + 16 : data.index(b"\r", place)]) if place >= 0 else 0
        if end < 4 or len(data) - end < length:
            self._buffer = data
            return
        self._buffer = b""
        self._answer(data)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET "):
            body = _SMALL.get(request.split(b" ", 2)[1], b"{}")
            self.transport.write(_HEAD % (len(body), body))
        elif b'"stream":true' in request[-600:] or b'"stream": true' in request[-600:] or SLOW in request:
            self._sent = 0
            self._pause_s = _SLOW_S if SLOW in request else EVENT_S
            self._stream(STREAM_HEAD)
        else:
            self.transport.write(PLAIN)

    def _stream(self, before: bytes = b"") -> None:
        if self.transport.is_closing():
            return
        if self._sent == EVENTS and self._pause_s == EVENT_S:
            self.transport.write(LAST)
            return
        self.transport.write(before + STREAM[self._sent % EVENTS])
        self._sent += 1
        asyncio.get_running_loop().call_later(self._pause_s, self._stream)


async def main(port: int, tls_port: int, pem: str, ca: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    loop = asyncio.get_running_loop()
    await loop.create_server(Engine, PLACES, port, backlog=4096)
    await loop.create_server(Engine, PLACES, tls_port, ssl=context, backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
