"""One request about files or batches, on a connection that it borrows from the front, for it may take its time.

The body is read as fast as the disk takes it, an answer is sent as fast as the client reads it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qsl

import structlog

from controlplane.gateway import answer
from controlplane.gateway.batch.refusals import Broke, NoRoom, Unkept
from controlplane.gateway.chunked import BadChunk, ChunkedReader
from controlplane.gateway.directory import Directory, Grant, Terms
from controlplane.gateway.errors import BadRequest, Refusal, TooSlow
from controlplane.gateway.head import Head
from controlplane.gateway.hub import Hub

log = structlog.get_logger()

_CONTENT_TYPE = re.compile(rb"\ncontent-type:[ \t]*([^\r]*)", re.IGNORECASE)
_AHEAD_BYTES = 1024 * 1024  # what a client may send before the disk has taken it
_NO_ROOM = 28, 122  # ENOSPC, EDQUOT


class Lender(Protocol):
    """Whose connection it is."""

    def take_back(self, rest: bytes, *, keep_alive: bool) -> None:
        """Go on with the next request; `rest` is what came of it already."""
        ...


class Visit(asyncio.Protocol):
    """`terms` and `grant` are set once `admit` was asked; `deadline` is moved by whoever makes progress."""

    grant: Grant
    terms: Terms
    directory: Directory
    ends_s = float("inf")  # however well it goes on, of the loop's time

    def __init__(
        self,
        hub: Hub,
        transport: asyncio.Transport,
        lender: Lender,
        head: Head,
        raw: bytes,
        source: str,
        request_id: bytes,
    ) -> None:
        self.hub = hub
        self.head = head
        self.source = source
        self.request_id = request_id
        self.keep_alive = head.keep_alive
        self.deadline = hub.tick + hub.limits.body_s
        self._raw = raw
        self._transport = transport
        self._lender = lender
        self._chunks = ChunkedReader() if head.chunked else None
        self._left = head.length
        self._body = bytearray()
        self._body_ended = not head.has_body
        self._rest = b""
        self._fault: Refusal | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._reading = True
        self._begun = False  # bytes of the answer are out
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, rest: bytes, serve: Callable[["Visit"], Awaitable[None]]) -> None:
        """Take the connection over; `rest` is what came behind the head."""
        self._transport.set_protocol(self)
        self.hub.connections.add(self)
        if rest:
            self.data_received(rest)
        elif self.head.expects_continue:
            self._transport.write(answer.CONTINUE)
        self._task = asyncio.get_running_loop().create_task(self._run(serve))

    @property
    def content_type(self) -> bytes:
        found = _CONTENT_TYPE.search(self._raw)
        return found[1].strip() if found else b""

    @property
    def query(self) -> dict[str, str]:
        target = self._raw.split(b" ", 2)[1].decode("latin-1")
        try:
            return dict(parse_qsl(target.partition("?")[2], max_num_fields=16))
        except ValueError:
            raise BadRequest("the query has over 16 fields", remedy="send what the reference names") from None

    # --- what the desk calls

    async def receive(self) -> bytes:
        """Return more of the body, b"" at its end. Raises Refusal."""
        while not self._body and not self._body_ended:
            if self._fault is not None:
                raise self._fault
            self._arrived.clear()
            await self._arrived.wait()
        if self._fault is not None:
            raise self._fault
        part = bytes(self._body)
        self._body.clear()
        self._read_on()
        return part

    async def receive_all(self, most_bytes: int) -> bytes:
        """Return the whole of a small body. Raises BadRequest."""
        body = bytearray()
        while part := await self.receive():
            body += part
            if len(body) > most_bytes:
                raise BadRequest(f"the body is over {most_bytes} bytes", remedy="send less", param="body")
        return bytes(body)

    async def send(self, data: bytes) -> None:
        """Send a part of the answer, as fast as the client reads."""
        self._begun = True
        self._transport.write(data)
        await self._writable.wait()

    async def answer(self, status: int, body: bytes) -> None:
        await self.send(
            answer.small(status, self.request_id, body, keep_alive=self._lives_on(), head_only=self._head_only)
        )

    def content_head(self, size: int) -> bytes:
        return answer.attachment(self.request_id, size, keep_alive=self._lives_on())

    def moves_on(self, silence_s: float) -> None:
        """Give it so much longer, for something was done."""
        self.deadline = min(self.hub.tick + silence_s, self.ends_s)

    def give_up(self) -> None:
        """End an answer that cannot be completed: its length says that it was cut off."""
        self.keep_alive = False
        self._transport.abort()

    @property
    def _head_only(self) -> bool:
        return self.head.method == b"HEAD"

    # --- the connection

    def data_received(self, data: bytes) -> None:
        if self._leaving:
            return
        if self._body_ended:
            self._rest += data
            self._hold_back(len(self._rest) > self.hub.limits.held_bytes)
            return
        try:
            self._take(data)
        except BadChunk as error:
            self._fault = BadRequest(error.detail, remedy=error.remedy)
        self._arrived.set()
        self._hold_back(len(self._body) > _AHEAD_BYTES)

    def _take(self, data: bytes) -> None:
        if self._chunks is not None:
            self._body += self._chunks.feed(data)
            self._body_ended, self._rest = self._chunks.done, self._chunks.rest
            return
        self._body += data[: self._left]
        self._rest = data[self._left :]
        self._left = max(0, self._left - len(data))
        self._body_ended = not self._left

    def _hold_back(self, too_much: bool) -> None:  # noqa: FBT001 - a question with one answer
        if too_much and self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.hub.connections.discard(self)
        self._leaving = True
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> None:
        """A client that has hung up waits for nothing."""
        if self._task is not None:
            self._task.cancel()

    # --- what the sweep calls

    def on_deadline(self) -> None:
        if self._leaving or self._begun or self._body_ended:
            self.abort()
            return
        self._fault = TooSlow("the request did not arrive in time", remedy="send it in one go")
        self.deadline = self.hub.tick + self.hub.limits.linger_s
        self._arrived.set()

    def finish_and_close(self) -> None:
        self.keep_alive = False

    def abort(self) -> None:
        self._transport.abort()

    # --- its course

    async def _run(self, serve: Callable[["Visit"], Awaitable[None]]) -> None:
        try:
            await serve(self)
        except Refusal as refusal:
            self._refuse(refusal)
        except OSError as error:
            self._disk_failed(error)
        except Exception as error:  # noqa: BLE001 - the outermost of a request: nobody else would answer
            log.error("files.broke", request=self.request_id.decode(), error=type(error).__name__)  # noqa: TRY400 - a text may hold content
            self.keep_alive = False
            self._refuse(Broke("the gateway failed over this request", remedy="operators: look at the gateway's log"))
        self._end()

    def _disk_failed(self, error: OSError) -> None:
        log.error("files.failed", request=self.request_id.decode(), error=f"{type(error).__name__}: {error}")
        if error.errno in _NO_ROOM:
            self._refuse(NoRoom("this gateway's disk is full", remedy="try later; operators: look at its disk"))
        else:
            self._refuse(Unkept("what is kept here cannot be reached now", remedy="try again in a few seconds"))

    def _refuse(self, refusal: Refusal) -> None:
        if self._begun:
            self.give_up()
            return
        self._begun = True
        self._transport.write(
            answer.refused(refusal, self.request_id, keep_alive=self._lives_on(), head_only=self._head_only)
        )

    def _lives_on(self) -> bool:
        """Say whether another request may follow: only behind a body that was read to its end."""
        self.keep_alive = self.keep_alive and self._body_ended and not self.hub.draining
        return self.keep_alive

    def _end(self) -> None:
        self._task = None
        if self._transport.is_closing():
            return
        if self._body_ended:
            self._give_back()
        else:
            self._linger()

    def _give_back(self) -> None:
        self._leaving = True
        self.hub.connections.discard(self)
        self._read_on()
        self._lender.take_back(self._rest, keep_alive=self.keep_alive)

    def _linger(self) -> None:
        """Close, but not over data in flight: a reset would take our answer with it."""
        self._leaving = True
        self._body.clear()
        self._read_on()
        self.deadline = self.hub.tick + self.hub.limits.linger_s
        if self._transport.can_write_eof():
            self._transport.write_eof()
