"""The client's side: one connection, its requests one after the other, each within its limits."""

import asyncio
from enum import Enum, auto
from typing import cast

from controlplane.gateway import answer, routes
from controlplane.gateway.batch import desk
from controlplane.gateway.bodies import SMALL
from controlplane.gateway.chunked import BadChunk, ChunkedReader
from controlplane.gateway.directory import Directory, Grant, Terms
from controlplane.gateway.error_shapes import OPENAI, ErrorShape
from controlplane.gateway.errors import BadRequest, BodyTooLarge, HeadTooLarge, NoSnapshot, Refusal, TooSlow
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.head import END, Head, HeadReader
from controlplane.gateway.hub import Hub
from controlplane.gateway.reception import to_request
from controlplane.gateway.request import Work
from controlplane.gateway.routing.explain import EXPLAIN, tell
from controlplane.gateway.surface.surface import Surface


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    LEAVING = auto()


IDLE, HEAD, BODY, ANSWERING, LEAVING = Phase  # plain names: an attribute look-up per packet less


class ClientConnection(asyncio.Protocol):
    __slots__ = (
        "_body_bytes",
        "_buffer",
        "_chunks",
        "_directory",
        "_errors",
        "_exchange",
        "_grant",
        "_heads",
        "_held",
        "_hub",
        "_left",
        "_paused",
        "_phase",
        "_request_id",
        "_source",
        "_stalled",
        "_surface",
        "_terms",
        "_transport",
        "_work",
        "chunked_answers",
        "deadline",
        "keep_alive",
    )

    _transport: asyncio.Transport
    _directory: Directory  # as of the head: a body may take its time, a verdict does not change meanwhile
    _grant: Grant
    _surface: Surface
    _terms: Terms
    _work: Work

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._phase = IDLE
        self._heads = HeadReader()
        self._buffer = bytearray()  # a head or a body that has not come whole
        self._body_bytes = 0  # that the hub has counted
        self._left = 0
        self._chunks: ChunkedReader | None = None
        self._held = b""  # the next requests, while one is being answered
        self._paused = False  # we do not read: the client has sent too far ahead
        self._stalled = False  # the client does not read
        self._exchange: Exchange | None = None
        self._request_id = b""
        self._errors: ErrorShape = OPENAI
        self._source = ""
        self.keep_alive = True
        self.chunked_answers = True
        self.deadline = hub.tick + hub.limits.head_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a stream protocol gets no other kind
        self._source = str((transport.get_extra_info("peername") or ("",))[0])
        self._hub.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._phase = LEAVING
        self._hub.connections.discard(self)
        self._body_over()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()

    def eof_received(self) -> None:
        """A client that has hung up waits for nothing."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        self._phase = LEAVING

    def pause_writing(self) -> None:
        self._stalled = True
        self.deadline = self._hub.tick + self._hub.limits.stalled_client_s
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._stalled = False
        self.deadline = self._hub.tick + self._hub.limits.silence_s
        if self._exchange is not None:
            self._exchange.resume()
        else:
            self._continue()

    def data_received(self, data: bytes) -> None:
        while data and not self._stalled:
            if self._phase is IDLE or self._phase is HEAD:
                data = self._head_continued(data)
            elif self._phase is BODY:
                data = self._body_continued(data)
            elif self._phase is ANSWERING:
                break
            else:
                return
        if data:
            self._hold(data)

    # --- what the exchange and the sweep call

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def answered(self) -> None:
        """The answer is complete; the next request may begin."""
        self._exchange = None
        self._rest()
        if self._held or self._paused:
            self._continue()

    def refuse(self, refusal: Refusal, headers: bytes = b"") -> None:
        """Answer with a refusal. Only a request that was read to its end lets the connection live."""
        read_whole = self._phase is ANSWERING
        self._exchange = None
        self.keep_alive = self.keep_alive and read_whole
        shape, alive = self._errors, self.keep_alive
        self.write(answer.refused(refusal, self._request_id, keep_alive=alive, headers=headers, shape=shape))
        if read_whole:
            self.answered()
        else:
            self._linger()

    def leave(self) -> None:
        """Send what is written, then close."""
        self._phase = LEAVING
        self._exchange = None
        self._body_over()
        self.deadline = self._hub.tick + self._hub.limits.stalled_client_s
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def finish_and_close(self) -> None:
        """Close after the answer that is on its way; who has just come may still ask one thing."""
        self.keep_alive = False
        if self._phase is IDLE and self._request_id:
            self.leave()

    def on_deadline(self) -> None:
        if self._stalled or self._phase is LEAVING:
            self.abort()
        elif self._exchange is not None:
            self._exchange.time_out()
        elif self._phase is IDLE:
            self.leave()
        else:
            self._new_request(keep_alive=False)
            self.refuse(TooSlow("the request did not arrive in time", remedy="send it in one go"))

    # --- reading a request

    def _head_continued(self, data: bytes) -> bytes:
        """Read a head; return what follows it."""
        if self._buffer:
            searched = max(0, len(self._buffer) - len(END))
            self._buffer += data
            end = self._buffer.find(END, searched)
            data = bytes(self._buffer) if end >= 0 else b""
        else:
            data = data.lstrip(b"\r\n") if data[0] in b"\r\n" else data
            end = data.find(END)
        size = end + len(END) if end >= 0 else max(len(data), len(self._buffer))
        if size > self._hub.limits.head_bytes:
            self._new_request(keep_alive=False)
            self.refuse(HeadTooLarge("the request head is too large", remedy="send fewer or shorter headers"))
            return b""
        if end < 0:
            self._wait_for_head(data)
            return b""
        if self._buffer:
            self._buffer.clear()
        return self._head_complete(data[:size], data[size:])

    def _wait_for_head(self, data: bytes) -> None:
        if not self._buffer:
            self._buffer += data
        if self._phase is IDLE and self._buffer:
            self._phase = HEAD
            self.deadline = self._hub.tick + self._hub.limits.head_s

    def _head_complete(self, raw: bytes, rest: bytes) -> bytes:
        self._new_request(keep_alive=not self._hub.draining)
        try:
            head = self._heads.read(raw)
        except Refusal as refusal:
            self.refuse(refusal)
            return b""
        self.chunked_answers = head.chunked_answers
        self.keep_alive = self.keep_alive and head.keep_alive
        surface = routes.SURFACES.get(head.path)
        if surface is None or head.method != b"POST":
            if head.path.startswith(desk.PREFIXES):
                return self._hand_over(head, raw, rest)
            self._answer_small(head)
            return rest
        self._surface, self._errors = surface, surface.errors
        try:
            self._expect_body(head, rest)
        except Refusal as refusal:
            if not isinstance(refusal, NoSnapshot):
                self._deny(refusal, self._directory.owner(head.authorization))
            return self._refuse_early(refusal, head, rest)
        return rest

    def _hand_over(self, head: Head, raw: bytes, rest: bytes) -> bytes:
        """Lend the connection to a visit of files or batches."""
        self._phase = LEAVING
        self._hub.connections.discard(self)
        desk.answer_visit(self._hub, self._transport, self, head, raw, rest, self._source, self._request_id)
        return b""

    def take_back(self, rest: bytes, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._transport.set_protocol(self)
        self._hub.connections.add(self)
        self._rest()
        self.data_received(rest)

    def _deny(self, refusal: Refusal, grant: Grant | None) -> None:
        self._hub.deny_early(refusal, grant, self._directory, self._request_id, self._source)

    def _refuse_early(self, refusal: Refusal, head: Head, rest: bytes) -> bytes:
        """Refuse before the body was read; a body that is here already is skipped."""
        if not head.chunked and len(rest) >= head.length:
            self._phase = ANSWERING
        self.refuse(refusal)
        return rest[head.length :]

    def _new_request(self, *, keep_alive: bool) -> None:
        self._request_id = self._hub.request_id()
        self._errors = OPENAI
        self.keep_alive = keep_alive
        self.chunked_answers = True

    def _answer_small(self, head: Head) -> None:
        self.write(
            routes.answer_small(
                self._hub, head, self._source, self._request_id, keep_alive=self.keep_alive and not head.has_body
            )
        )
        if head.has_body:
            self._linger()
        else:
            self._rest()

    def _expect_body(self, head: Head, rest: bytes) -> None:
        hub = self._hub
        now = hub.clock.now()
        self._directory = hub.directory(now)
        self._grant = self._directory.admit(head.authorization, self._source, now)
        self._terms = self._grant.terms(head)
        self._work = self._grant.bounded(head.work)
        if head.length > hub.limits.body_bytes:
            raise self._body_too_large()
        if not head.has_body:
            raise BadRequest("the request has no body", remedy="send a JSON object with model and messages")
        if head.length > SMALL:
            self._count_body(head.length)
        if head.expects_continue and not rest:
            self.write(answer.CONTINUE)
        self._left = head.length
        self._chunks = ChunkedReader() if head.chunked else None
        self._phase = BODY
        self.deadline = hub.tick + hub.limits.body_s

    def _body_continued(self, data: bytes) -> bytes:
        """Read a body; return what follows it."""
        if self._chunks is not None:
            return self._chunks_continued(self._chunks, data)
        if not self._buffer and len(data) >= self._left:
            body, rest = data[: self._left], data[self._left :]
            self._body_complete(body)
            return rest
        missing = self._left - len(self._buffer)
        self._buffer += data[:missing]
        if len(self._buffer) == self._left:
            self._body_complete(self._taken())
        return data[missing:]

    def _chunks_continued(self, chunks: ChunkedReader, data: bytes) -> bytes:
        try:
            self._buffer += chunks.feed(data)
            if len(self._buffer) > self._hub.limits.body_bytes:
                raise self._body_too_large()
            if len(self._buffer) > self._body_bytes + SMALL:
                self._count_body(len(self._buffer))
        except BadChunk as error:
            self.refuse(BadRequest(error.detail, remedy=error.remedy))
        except Refusal as refusal:
            self.refuse(refusal)
        else:
            if chunks.done:
                self._body_complete(self._taken())
                return chunks.rest
        return b""

    def _count_body(self, size: int) -> None:
        """Take account of so many bytes of one body in all. Raises TooMuchAtOnce."""
        self._hub.bodies.take(self._grant.key_id, size - self._body_bytes)
        self._body_bytes = size

    def _body_over(self) -> None:
        if self._body_bytes:
            self._hub.bodies.give_back(self._grant.key_id, self._body_bytes)
            self._body_bytes = 0

    def _taken(self) -> bytes:
        body = bytes(self._buffer)
        self._buffer.clear()
        return body

    def _body_too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is over {self._hub.limits.body_bytes} bytes", remedy="send less context")

    def _body_complete(self, body: bytes) -> None:
        self._phase = ANSWERING
        try:
            request = to_request(
                self._hub, self._directory, self._grant, self._terms, self._work, self._surface, body, self._source,
                self._request_id,
            )  # fmt: skip
        except Refusal as refusal:
            self._deny(refusal, self._grant)
            self.refuse(refusal)
        else:
            if request.surface is EXPLAIN:
                tell(self._hub, self, request)
                return
            self._exchange = Exchange(self._hub, self, request)
            self._exchange.begin()

    # --- between requests

    def _rest(self) -> None:
        self._body_over()
        if not self.keep_alive:
            self.leave()
            return
        self._phase = IDLE
        self.deadline = self._hub.tick + self._hub.limits.idle_s

    def _hold(self, data: bytes) -> None:
        self._held += data
        if not self._paused and len(self._held) > self._hub.limits.held_bytes:
            self._paused = True
            self._transport.pause_reading()

    def _continue(self) -> None:
        held, self._held = self._held, b""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        if held:
            self.data_received(held)

    def _linger(self) -> None:
        """Close, but not over data in flight: a reset would take our answer with it."""
        self._phase = LEAVING
        self._buffer.clear()
        self._body_over()
        self._exchange = None
        self.deadline = self._hub.tick + self._hub.limits.linger_s
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
