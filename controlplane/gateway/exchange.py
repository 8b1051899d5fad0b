"""One request on its way, a method per step: budget, record, seat, replica, answer; and one end, whatever happens."""

import asyncio
from typing import Protocol

import structlog

from controlplane.gateway import answer, engine_errors
from controlplane.gateway.budget.budgets import Budgets, Hold
from controlplane.gateway.chunked import LAST, chunk
from controlplane.gateway.directory import Endpoint
from controlplane.gateway.errors import (
    NoReplica,
    NotRecorded,
    Refusal,
    ReplicaLost,
    ReplicaTooSlow,
)
from controlplane.gateway.limits import Limits
from controlplane.gateway.link import Link
from controlplane.gateway.meter.trail import CLIENT_LEFT, Trail, to_intent
from controlplane.gateway.records import Result
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request
from controlplane.gateway.routing.choose import choose_replica
from controlplane.gateway.spool import Journal
from controlplane.gateway.sse import EventGate, EventTooLarge
from controlplane.gateway.surface.surface import Orders
from controlplane.gateway.waiting.queues import Queues

log = structlog.get_logger()

_OK = 200
_MOST_TIMES_SENT = 2  # a prompt that kills an engine must not walk through all of them
_BUSY = frozenset({429, 503})


class Client(Protocol):
    """The client's side of an exchange."""

    deadline: float
    keep_alive: bool
    chunked_answers: bool

    def write(self, data: bytes) -> None: ...

    def answered(self) -> None:
        """The answer is complete; the next request may begin."""
        ...

    def refuse(self, refusal: Refusal, headers: bytes = b"") -> None:
        """Answer with a refusal; nothing of this answer was written yet."""
        ...

    def leave(self) -> None:
        """Send what is written, then close."""
        ...


class Surroundings(Protocol):
    """What an exchange needs of its process."""

    tick: float
    limits: Limits
    journal: Journal
    budgets: Budgets
    queues: Queues

    def time(self) -> float: ...

    def deny(self, refusal: Refusal, request: Request) -> None:
        """Write down that a known key was refused, if that is what it is."""
        ...

    def endpoint_now(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as the newest snapshot has it."""
        ...


class Exchange:
    __slots__ = (
        "_begun",
        "_body",
        "_client",
        "_endpoint",
        "_gate",
        "_hold",
        "_link",
        "_live",
        "_opening",
        "_recorded",
        "_refreshed",
        "_replica",
        "_request",
        "_sent",
        "_surroundings",
        "_trail",
        "_tried",
    )

    def __init__(self, surroundings: Surroundings, client: Client, request: Request) -> None:
        self._surroundings = surroundings
        self._client = client
        self._request = request
        self._endpoint = request.endpoint
        self._trail = Trail(surroundings.journal, request, surroundings.time)
        self._hold: Hold | None = None
        self._body = b""
        self._live = True
        self._recorded = False
        self._gate = EventGate(surroundings.limits.event_bytes) if request.ask.streamed else None
        self._replica: Replica | None = None
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tried: tuple[Replica, ...] = ()
        self._sent = 0
        self._refreshed = False
        self._begun = False

    # --- first, what it may use

    def begin(self) -> None:
        try:
            hold = self._surroundings.budgets.clear(self._request, self)
        except Refusal as refusal:
            self.not_cleared(refusal)
        else:
            if hold is not None:
                self.cleared(hold)

    def cleared(self, hold: Hold) -> None:
        """It may use this much: write down what is about to happen, and go on once that is durable."""
        self._hold = hold
        if not self._live:
            hold.settle(self._trail.usage)
            return
        around = self._surroundings
        self._client.deadline = around.tick + around.limits.intent_s
        around.journal.intend(to_intent(self._request, hold), self)

    def not_cleared(self, refusal: Refusal) -> None:
        if self._live:
            self._live = False
            self._surroundings.deny(refusal, self._request)
            self._client.refuse(refusal)

    # --- then, that it is written down

    def recorded(self) -> None:
        """The intent is durable: take a seat, unless the client has left meanwhile."""
        self._recorded = True
        if not self._live:
            return
        try:
            if self._surroundings.queues.enter(self._request, self):
                self.seated()
        except Refusal as refusal:
            self.not_seated(refusal)

    def not_recorded(self) -> None:
        """What cannot be written down is not done."""
        if self._live:
            self._live = False
            self._settle()
            self._client.refuse(_not_recorded())

    # --- then, its turn

    def seated(self) -> None:
        if self._live:
            self._body = self._request.surface.to_engine(self._request.ask, self._request.body, self._orders())
            self._start()

    def not_seated(self, refusal: Refusal) -> None:
        if self._live:
            self._end(refusal)

    def _orders(self) -> Orders:
        hold, endpoint = self._hold, self._endpoint
        return Orders(hold.most_tokens if hold is not None else 0, adapter=endpoint.adapter)

    # --- then, a replica

    def _start(self) -> None:
        """Send the request to the best replica."""
        around = self._surroundings
        self._client.deadline = around.tick + around.limits.first_byte_s
        endpoint = self._endpoint = around.endpoint_now(self._endpoint)
        replica = choose_replica(endpoint.replicas, turn=next(endpoint.turns), now=around.tick, avoid=self._tried)
        if replica is None:
            self._end(self._nobody_left())
        else:
            self._take(replica, replica.idle_link())

    def cancel(self) -> None:
        """The client is gone: so is the work."""
        self._stop()
        self._over("cancelled", CLIENT_LEFT)

    def _stop(self) -> None:
        self._live = False
        if self._opening is not None:
            self._opening.cancel()
        if self._link is not None:
            self._link.drop()
        self._let_go()

    def _over(self, result: Result, status: int, code: str = "") -> None:
        """End it once: the seat is free, the outcome is told, what was held is settled."""
        self._live = False
        if self._recorded:
            self._surroundings.queues.leave(self._request, self)
        if self._hold is not None:
            self._trail.end(self._hold, result, status, code)

    def _settle(self) -> None:
        if self._hold is not None:
            self._hold.settle(self._trail.usage)

    def time_out(self) -> None:
        """The replica said nothing for too long, or the disk did not."""
        self._stop()
        if not self._recorded:
            self._end(_not_recorded())
            return
        self._end(
            ReplicaTooSlow(
                "the replica did not answer in time", remedy="try again, or ask for fewer tokens with stream: true"
            )
        )

    def pause(self) -> None:
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        if self._link is not None:
            self._link.resume()

    def _take(self, replica: Replica, link: Link | None) -> None:
        self._replica = replica
        self._trail.replica = replica.spec.replica_id
        replica.running += 1
        if link is None:
            self._opening = asyncio.get_running_loop().create_task(self._open(replica, fresh=self._refreshed))
        else:
            self._send(replica, link)

    async def _open(self, replica: Replica, *, fresh: bool) -> None:
        try:
            link = await replica.open_link(fresh=fresh)
        except (OSError, ValueError) as error:  # ValueError: a certificate that cannot be read
            self._opening = None
            log.warning(
                "replica.unreachable", replica=replica.spec.replica_id, error=f"{type(error).__name__}: {error}"
            )
            replica.rests_until = self._surroundings.tick + self._surroundings.limits.rest_s
            self._try_another()
        else:
            self._opening = None
            self._send(replica, link)

    def _send(self, replica: Replica, link: Link) -> None:
        self._link = link
        self._trail.usage.dispatched = True
        head = b"POST %b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            self._request.surface.engine_path,
            replica.request_head,
            self._request.request_id,
            len(self._body),
        )
        link.send(self, head + self._body)

    def _try_another(self) -> None:
        if self._replica is not None:
            self._tried = (*self._tried, self._replica)
        self._let_go()
        self._start()

    def _let_go(self) -> None:
        if self._replica is not None:
            self._replica.running -= 1
        self._replica = self._link = self._opening = None

    def link_lost(self, *, silent: bool) -> None:
        replica, link = self._replica, self._link
        if self._begun:
            self._let_go()
            self._end(_lost())
        elif (
            silent
            and link is not None
            and link.reused
            and replica is not None
            and not (self._refreshed or replica.cut_off)
        ):
            self._refreshed = True  # the replica closed a link that had been idle: it has not seen this request
            self._let_go()
            self._take(replica, None)
        else:
            self._sent += 1
            self._try_another() if self._sent < _MOST_TIMES_SENT else self._give_up(_lost())

    def answered(self, status: int, body: bytes) -> None:
        client = self._client
        if status == _OK and self._gate is None:
            self._let_go()
            self._trail.sent(body)
            self._over("answered", _OK)
            client.write(
                answer.completion(self._headers(), self._request.request_id, body, keep_alive=client.keep_alive)
            )
            client.answered()
        elif status in _BUSY:
            self._try_another()
        else:
            self._give_up(self._refusal_of(status, body))

    def stream_continued(self, payload: bytes, *, done: bool) -> None:
        gate = self._gate
        if gate is None:
            self._break_off()  # nobody asked for a stream
            return
        if done:
            self._let_go()
        try:
            events = gate.feed(payload)
        except EventTooLarge:
            self._break_off()
            return
        client = self._client
        client.deadline = self._surroundings.tick + self._surroundings.limits.silence_s
        self._trail.sent(events)
        if done:
            self._end_stream(events, whole=not gate.holds_part)
        elif events:
            client.write(self._framed(events))

    def _end_stream(self, events: bytes, *, whole: bool) -> None:
        out = self._framed(events) if events else b""
        if not whole or not self._begun:
            self._end(_lost(), after=out)
            return
        self._over("answered", _OK)
        self._client.write(out + LAST if self._client.chunked_answers else out)
        self._client.answered()

    def _break_off(self) -> None:
        self._stop()
        self._end(_lost())

    def _framed(self, events: bytes) -> bytes:
        client = self._client
        framed = chunk(events) if client.chunked_answers else events
        if self._begun:
            return framed
        self._begun = True  # head and first event leave in one packet
        head = answer.stream_head(
            self._headers(), self._request.request_id, keep_alive=client.keep_alive, chunked=client.chunked_answers
        )
        return head + framed

    def _headers(self) -> bytes:
        """Return the header lines that say what served it and within which limits."""
        hold = self._hold
        return self._endpoint.headers + hold.left if hold is not None else self._endpoint.headers

    def _give_up(self, refusal: Refusal) -> None:
        self._let_go()
        self._end(refusal)

    def _end(self, refusal: Refusal, after: bytes = b"") -> None:
        """Refuse while that is possible; else send an event that says so, and leave the stream without its end."""
        self._over("failed", _OK if self._begun else refusal.status, refusal.code)
        if not self._begun:
            self._client.refuse(refusal)
            return
        event = answer.error_event(refusal)
        self._client.write(after + (chunk(event) if self._client.chunked_answers else event))
        self._client.leave()

    def _nobody_left(self) -> Refusal:
        name = self._endpoint.name
        if self._sent:
            return _lost()
        if self._tried:
            return NoReplica(f"no replica of {name} can be reached or has room", remedy="try again in a few seconds")
        return NoReplica(f"{name} has no ready replica", remedy="try again in a few seconds")

    def _refusal_of(self, status: int, body: bytes) -> Refusal:
        refusal = engine_errors.of_client(status, body)
        if refusal is not None:
            return refusal
        replica = self._replica.spec.replica_id if self._replica else ""
        log.warning("replica.failed", replica=replica, status=status, request=self._request.request_id.decode())
        return ReplicaLost("the replica failed on this request", remedy="change the request or try again")


def _not_recorded() -> Refusal:
    return NotRecorded("the service cannot answer now", remedy="try again in a few seconds")


def _lost() -> Refusal:
    return ReplicaLost("the replica was lost before the answer was complete", remedy="send the request again")
