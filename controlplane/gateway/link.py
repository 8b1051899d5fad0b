"""One connection to one replica: sends a request, reads its answer, and nothing in between."""

import asyncio
import contextlib
import re
import socket
from functools import lru_cache
from typing import Protocol, cast

import msgspec

from controlplane.gateway.chunked import ChunkedReader
from controlplane.kit.errors import BadInput

_MOST_HEAD_BYTES = 8 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9]{2}[ \r]")
_FIELD = re.compile(rb"\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

# A node that loses power sends no FIN: 5 s of silence, then 3 probes 2 s apart; at most 10 s for unacknowledged data.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class BrokenAnswer(BadInput):
    def __init__(self, detail: str) -> None:
        super().__init__(detail, remedy="look at the replica's log")


class AnswerHead(msgspec.Struct, frozen=True, gc=False):
    """`length` is -1 for a chunked body."""

    status: int
    length: int
    is_stream: bool
    keep_alive: bool


class Asker(Protocol):
    """Who waits for the answer."""

    def answered(self, status: int, body: bytes) -> None:
        """Take a whole answer; the link is free again."""
        ...

    def stream_continued(self, payload: bytes, *, done: bool) -> None:
        """Take a part of an event stream; with `done` the link is free again."""
        ...

    def link_lost(self, *, silent: bool) -> None:
        """The connection is gone; `silent` when not one byte of an answer came."""
        ...


class LinkOwner(Protocol):
    """Who keeps links between requests."""

    def link_freed(self, link: "Link") -> None: ...

    def link_lost(self, link: "Link") -> None: ...


class Link(asyncio.Protocol):
    __slots__ = (
        "_answer_bytes",
        "_asker",
        "_buffer",
        "_chunks",
        "_head",
        "_heard",
        "_left",
        "_owner",
        "_parts",
        "_paused",
        "_size",
        "_transport",
        "idle_since",
        "reused",
    )

    _transport: asyncio.Transport

    def __init__(self, owner: LinkOwner, answer_bytes: int) -> None:
        self._owner = owner
        self._answer_bytes = answer_bytes
        self._asker: Asker | None = None
        self._head: AnswerHead | None = None
        self._chunks: ChunkedReader | None = None
        self._buffer = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._left = 0
        self._heard = False
        self._paused = False
        self.reused = False
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream protocol gets no other kind
        line = transport.get_extra_info("socket")
        for option in _KEEPALIVE:
            with contextlib.suppress(OSError):  # a unix socket in a test knows none of these
                line.setsockopt(*option)

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, asker: Asker, request: bytes) -> None:
        self._asker = asker
        self._head = None
        self._heard = False
        self._transport.write(request)

    def pause(self) -> None:
        if not self._paused and self.usable:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self.usable:
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        self._transport.close()

    def drop(self) -> None:
        """End at once, and tell the asker nothing: this is how a request is cancelled upstream."""
        self._asker = None
        self._transport.abort()

    def abandon(self) -> None:
        """End a link that nobody waits for any more, connected or not."""
        if hasattr(self, "_transport"):
            self._transport.abort()

    def cut(self) -> None:
        """End at once; the asker hears of it."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        asker, head = self._asker, self._head
        if asker is None:
            self._transport.abort()  # nobody asked: whatever this is, it must not become the next answer
            return
        self._heard = True
        try:
            if head is None:
                head, data = self._read_head(data)
                if head is None:
                    return
            payload, done, clean = self._payload(data)
            if not head.is_stream:
                payload = self._collected(payload, done=done)
        except BadInput:
            self._transport.abort()
            return
        if done:
            self._free(keep=clean and head.keep_alive)
        if not head.is_stream:
            if done:
                asker.answered(head.status, payload)
        elif payload or done:
            asker.stream_continued(payload, done=done)

    def connection_lost(self, _error: Exception | None) -> None:
        self._owner.link_lost(self)
        asker, self._asker = self._asker, None
        if asker is not None:
            asker.link_lost(silent=not self._heard)

    def _read_head(self, data: bytes) -> tuple[AnswerHead | None, bytes]:
        data = self._buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > _MOST_HEAD_BYTES:
                raise BrokenAnswer("the head of the answer does not end")
            self._buffer = data
            return None, b""
        self._buffer = b""
        head = read_answer_head(data[:end])
        if head.status < 200:
            return self._read_head(data[end:])
        self._head = head
        self._left = head.length
        self._chunks = ChunkedReader() if head.length < 0 else None
        return head, data[end:]

    def _payload(self, data: bytes) -> tuple[bytes, bool, bool]:
        """Return the payload, whether the body is complete, and whether nothing follows it."""
        chunks = self._chunks
        if chunks is not None:
            payload = chunks.feed(data)
            return payload, chunks.done, not chunks.rest
        left = self._left = self._left - len(data)
        return (data, left == 0, True) if left >= 0 else (data[:left], True, False)

    def _collected(self, payload: bytes, *, done: bool) -> bytes:
        """Return the whole body once it is `done`."""
        parts = self._parts
        if done and not parts:
            return payload
        parts.append(payload)
        self._size += len(payload)
        if self._size > self._answer_bytes:
            raise BrokenAnswer("the answer is too long")
        return b"".join(parts) if done else b""

    def _free(self, *, keep: bool) -> None:
        self._asker = self._head = self._chunks = None
        if self._parts:
            self._parts = []
            self._size = 0
        self.reused = True
        if self._paused:
            self.resume()
        if keep:
            self._owner.link_freed(self)
        else:
            self._transport.close()


@lru_cache(maxsize=256)  # an engine has few heads, and lengths come again
def read_answer_head(raw: bytes) -> AnswerHead:
    """Read the head of a replica's answer. Raises BrokenAnswer unless the end of the body will be certain."""
    if not _STATUS_LINE.match(raw):
        raise BrokenAnswer("the answer is not HTTP/1.1")
    found = _FIELD.findall(raw.lower())
    fields = dict(found)
    if len(fields) != len(found) and sum(name in _FRAMING for name, _ in found) > 1:
        raise BrokenAnswer("the answer says twice how long it is")
    status = int(raw[9:12])
    chunked = fields.get(b"transfer-encoding") == b"chunked"
    length = fields.get(b"content-length", b"")
    if status >= 200 and chunked == length.isdigit():
        raise BrokenAnswer("the answer has not exactly one of Content-Length and chunked coding")
    return AnswerHead(
        status,
        -1 if chunked else int(length or 0),
        status == 200 and fields.get(b"content-type", b"").startswith(b"text/event-stream"),
        b"close" not in fields.get(b"connection", b""),
    )
