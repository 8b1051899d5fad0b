"""The metrics of a node's gateway over plain HTTP, on loopback alone: whoever scrapes from elsewhere needs a door."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.head import END, read_head
from controlplane.gateway.meter.exposition import CONTENT_TYPE

PATH = b"/metrics"
_MOST_HEAD_BYTES = 8 * 1024
_ANSWERS_WITHIN_S = 10.0  # less than a scraper waits


class MetricsConnection(asyncio.Protocol):
    """One question, one answer, and the end."""

    def __init__(self, page: Callable[[], Awaitable[bytes]]) -> None:
        self._page = page
        self._head = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream protocol gets no other kind
        self._timer = asyncio.get_running_loop().call_later(_ANSWERS_WITHIN_S, self._transport.abort)

    def connection_lost(self, _error: Exception | None) -> None:
        self._timer.cancel()
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        if self._answering is not None:
            return
        self._head += data
        end = self._head.find(END)
        if end >= 0:
            answering = self._answer(self._head[: end + len(END)])
            self._answering = asyncio.get_running_loop().create_task(answering)
        elif len(self._head) > _MOST_HEAD_BYTES:
            self._transport.abort()

    async def _answer(self, raw: bytes) -> None:
        try:
            head = read_head(raw)
        except BadRequest:
            self._send(b"400 Bad Request", b"")
            return
        if head.path != PATH:
            self._send(b"404 Not Found", b"")
        elif head.method not in (b"GET", b"HEAD"):
            self._send(b"405 Method Not Allowed", b"")
        else:
            self._send(b"200 OK", await self._page(), with_body=head.method == b"GET")

    def _send(self, status: bytes, body: bytes, *, with_body: bool = True) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self._transport.write(head % (status, CONTENT_TYPE, len(body)) + (body if with_body else b""))
        self._transport.close()
