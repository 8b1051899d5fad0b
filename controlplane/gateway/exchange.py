"""One request on its way, a method per step: budget, record, seat, replica, answer; and one end, whatever happens."""

from controlplane.gateway import answer, engine_errors
from controlplane.gateway.budget.budgets import Hold
from controlplane.gateway.dispatch import Dispatch, lost
from controlplane.gateway.errors import (
    BudgetRanOut,
    DeadlinePassed,
    NotRecorded,
    Refusal,
    ReplicaTooSlow,
)
from controlplane.gateway.meter.trail import CLIENT_LEFT, Trail, to_intent
from controlplane.gateway.records import Result
from controlplane.gateway.replica import Replica
from controlplane.gateway.request import Request
from controlplane.gateway.routing.isolation import orders_of
from controlplane.gateway.sse import EventTooLarge
from controlplane.gateway.stream import Stream
from controlplane.gateway.surface.surface import Orders
from controlplane.gateway.surroundings import Client, Surroundings

_OK = 200
_BUSY = frozenset({429, 503})
_NEVER_S = float("inf")
# Engines send an event for a token or for several, at most two for the token that begins a tool call, and a few more;
# an event has two lines, in some dialects three.
_LINES_A_TOKEN = 6
_OTHER_LINES = 200


class Exchange:
    """`_step_ends_s` and `_all_ends_s` are of the loop's time; the client's deadline is the next moment to look at."""

    __slots__ = (
        "_all_ends_s",
        "_around",
        "_client",
        "_dispatch",
        "_ended",
        "_heard",
        "_hold",
        "_live",
        "_most_lines",
        "_recorded",
        "_request",
        "_step_ends_s",
        "_stream",
        "_trail",
    )

    def __init__(self, around: Surroundings, client: Client, request: Request) -> None:
        self._around = around
        self._client = client
        self._request = request
        self._trail = Trail(around, request)
        self._hold: Hold | None = None
        self._live = True
        self._ended = False
        self._heard = False
        self._recorded = False
        self._dispatch = Dispatch(around, request, self)
        self._stream = Stream(client, request, around.limits.event_bytes) if request.ask.streamed else None
        self._most_lines = 0
        self._all_ends_s = self._client_leaves_s

    # --- first, what it may use

    def begin(self) -> None:
        try:
            self._around.suspects.check(self._request, self._request.at_us / 1e6)
            hold = self._around.budgets.clear(self._request, self)
        except Refusal as refusal:
            self.not_cleared(refusal)
        else:
            if hold is not None:
                self.cleared(hold)
            elif self._live and self._hold is None:
                self._wait(self._around.limits.clear_s)

    def cleared(self, hold: Hold) -> None:
        """It may use this much: write down what is about to happen, and go on once that is durable."""
        self._hold = hold
        if not self._live:
            hold.settle(self._trail.usage)
            return
        around, request = self._around, self._request
        self._most_lines = _LINES_A_TOKEN * hold.most_tokens * request.ask.choices + _OTHER_LINES
        self._all_ends_s = min(self._client_leaves_s, hold.ends_at_s)
        self._wait(around.limits.intent_s)
        around.journal.intend(to_intent(request, hold), self)

    def not_cleared(self, refusal: Refusal) -> None:
        if self._live:
            self._live = False
            self._dispatch.forget()
            self._around.deny(refusal, self._request)
            self._client.refuse(refusal)

    # --- then, that it is written down

    def recorded(self) -> None:
        """The intent is durable: take a seat, unless the client has left meanwhile."""
        self._recorded = True
        if not self._live:
            return
        self._trail.waits()
        try:
            if self._around.queues.enter(self._request, self):
                self.seated()
            else:
                self._wait(self._around.limits.first_byte_s)
        except Refusal as refusal:
            self.not_seated(refusal)

    def not_recorded(self) -> None:
        """What cannot be written down is not done."""
        if self._live:
            self._live = False
            self._dispatch.forget()
            self._settle()
            self._client.refuse(_not_recorded())

    def _settle(self) -> None:
        if self._hold is not None:
            self._hold.settle(self._trail.usage)

    # --- then, its turn

    def seated(self) -> None:
        if self._live:
            self._trail.seated()
            self._wait(self._around.limits.first_byte_s)
            self._dispatch.begin(self._request.ask.to_engine(self._request.body, self._orders()))

    def not_seated(self, refusal: Refusal) -> None:
        if self._live:
            self._end(refusal)

    def _orders(self) -> Orders:
        hold, request = self._hold, self._request
        return orders_of(request, hold.most_tokens if hold is not None else 0)

    # --- then, a replica

    def sent_to(self, replica: Replica) -> None:
        self._heard = False
        self._trail.sent_to(replica)

    def undelivered(self, refusal: Refusal) -> None:
        self._end(refusal)

    def link_lost(self, *, silent: bool) -> None:
        self._dispatch.count_loss()
        if self._stream is not None and self._stream.begun:
            self._go_on(self._stream, lost())
            return
        if self._stream is not None:
            self._stream.restart()
        self._wait(self._around.limits.first_byte_s)
        self._dispatch.lost(silent=silent)

    def _go_on(self, stream: Stream, refusal: Refusal) -> None:
        """A stream broke: end it if all was said, take it up elsewhere if that can be done, else say so."""
        dispatch, hold = self._dispatch, self._hold
        if stream.is_finished:
            dispatch.let_go()
            self._over("answered", _OK)
            stream.finish()
            return
        body = stream.go_on(dispatch.body, most_tokens=hold.most_tokens) if hold is not None else None
        if body is None:
            dispatch.let_go()
            self._end(refusal)
        else:
            self._wait(self._around.limits.first_byte_s)
            dispatch.go_on(body)

    # --- then, its answer

    def answered(self, status: int, body: bytes) -> None:
        if status == _OK and self._stream is None:
            self._pass_on(body)
        elif status in _BUSY:
            self._dispatch.nothing_made(self._trail.usage)
            self._wait(self._around.limits.first_byte_s)
            self._dispatch.try_another()
        elif (refusal := engine_errors.of_client(status, body)) is not None:
            self._dispatch.nothing_made(self._trail.usage)
            self._dispatch.let_go()
            self._end(refusal)
        else:
            self._wait(self._around.limits.first_byte_s)
            self._dispatch.erred(status)

    def _pass_on(self, body: bytes) -> None:
        client = self._client
        self._dispatch.answered()
        self._trail.answered(body)
        try:
            body = self._request.ask.to_client(body)
        except Refusal as refusal:
            self._end(refusal)
            return
        self._over("answered", _OK)
        client.write(answer.completion(self._headers(), self._request.request_id, body, keep_alive=client.keep_alive))
        client.answered()

    def stream_continued(self, payload: bytes, *, done: bool) -> None:
        stream = self._stream
        if stream is None:
            self._break_off()  # nobody asked for a stream
            return
        if done:
            self._dispatch.answered()
        try:
            events = stream.whole_events(payload)
        except EventTooLarge:
            self._break_off()
            return
        around = self._around
        ends_s = self._step_ends_s = around.tick + around.limits.silence_s
        self._client.deadline = ends_s if ends_s < self._all_ends_s else self._all_ends_s  # noqa: FURB136 - per event
        if stream.lines > self._most_lines:
            self._cut(stream, events)
            return
        if not self._heard:
            self._heard = True
            self._dispatch.heard()
        self._trail.sent(events)
        events = stream.for_client(events)
        if done:
            self._end_stream(stream, events)
        elif events:
            self._write(stream, events)

    def _cut(self, stream: Stream, events: bytes) -> None:
        """The engine does not keep to the limit that it was given: pass on what is within it."""
        events = stream.within(events, self._most_lines - stream.lines + events.count(b"\n"))
        self._trail.sent(events)
        events = stream.for_client(events)
        if events:
            self._write(stream, events)
        self.hold_over()

    def _end_stream(self, stream: Stream, events: bytes) -> None:
        if events:
            self._write(stream, events)
        if stream.holds_part or not stream.begun:
            self._end(lost())
            return
        self._over("answered", _OK)
        stream.end()

    def _write(self, stream: Stream, events: bytes) -> None:
        if stream.begun:
            stream.write(events)
        else:
            stream.begin(self._headers(), events)

    def _headers(self) -> bytes:
        """Return the header lines that say what served it and within which limits."""
        hold, headers, cached = self._hold, self._dispatch.endpoint.headers, self._trail.usage.tokens_cached
        if hold is not None:
            headers += hold.left + answer.limits(self._request.ask, hold.most_tokens)
        return headers if cached is None else b"%bx-redoubt-cached-tokens: %d\r\n" % (headers, cached)

    # --- last, its end

    def cancel(self) -> None:
        """The client is gone: so is the work."""
        if self._ended:
            return
        self._stop()
        self._over("cancelled", CLIENT_LEFT)

    def renews(self) -> bool:
        return self._live

    def hold_over(self) -> None:
        """What it may use is used up: a stream ends as if the model had come to its limit."""
        if self._ended:
            return
        self._stop()
        stream = self._stream
        if stream is None or not stream.begun:
            self._end(BudgetRanOut("the budget ended before the answer did", remedy="ask for less at a time"))
            return
        self._over("answered", _OK, BudgetRanOut.kind)
        stream.cut()

    # --- how long it may take

    @property
    def _client_leaves_s(self) -> float:
        request = self._request
        return request.began_s + request.work.deadline_s if request.work.deadline_s else _NEVER_S

    def _wait(self, limit_s: float) -> None:
        """The step that begins now may take this long."""
        self._step_ends_s = self._around.tick + limit_s
        self._look_again()

    def _look_again(self) -> None:
        at_s, ends_s = self._step_ends_s, self._all_ends_s
        if ends_s < at_s:  # noqa: PLR1730 - five times a request, and min() is a call
            at_s = ends_s
        if self._stream is not None:
            at_s = min(at_s, self._around.tick + self._around.limits.heartbeat_s)
        self._client.deadline = at_s

    def time_out(self) -> None:
        """Act on the limit that has passed, if it still stands: a hold may have been renewed meanwhile."""
        now_s, hold = self._around.tick, self._hold
        hold_ends_s = hold.ends_at_s if hold is not None else _NEVER_S
        self._all_ends_s = min(self._client_leaves_s, hold_ends_s)
        if now_s >= self._client_leaves_s:
            self._give_up(DeadlinePassed("the request's deadline has passed", remedy="give it more time"))
        elif now_s >= hold_ends_s:
            self.hold_over()
        elif now_s < self._step_ends_s:
            self._beat()
            self._look_again()
        elif self._stream is not None and self._stream.begun:
            self._dispatch.drop()
            self._go_on(self._stream, _too_slow())
        else:
            self._give_up(_too_slow() if self._recorded else _not_recorded())

    def _beat(self) -> None:
        if self._recorded and self._stream is not None and not self._heard:
            self._stream.beat(self._headers())

    def pause(self) -> None:
        self._dispatch.pause()

    def resume(self) -> None:
        """The client reads again: the replica has as long as after an event."""
        self._dispatch.resume()
        self._wait(self._around.limits.silence_s)

    def _break_off(self) -> None:
        self._give_up(lost())

    def _give_up(self, refusal: Refusal) -> None:
        self._stop()
        self._end(refusal)

    def _stop(self) -> None:
        self._live = False
        self._dispatch.stop()

    def _over(self, result: Result, status: int, code: str = "") -> None:
        """End it once: the seat is free, the outcome is told, what was held is settled."""
        if self._ended:
            return
        self._ended, self._live = True, False
        usage = self._trail.usage
        if self._stream is not None:
            usage.events = self._stream.events
        if self._hold is not None:
            self._trail.end(self._hold, result, status, code)
            self._dispatch.learn(usage)
        self._dispatch.forget()
        if self._recorded:
            self._around.queues.leave(self._request, self, usage.tokens_out or 0)

    def _end(self, refusal: Refusal) -> None:
        """Refuse while that is possible; else end the stream with an event that says so."""
        stream = self._stream if self._stream is not None and self._stream.opened else None
        self._over("failed", refusal.status if stream is None else _OK, refusal.code)
        if stream is None:
            self._client.refuse(refusal)
        else:
            stream.break_off(refusal)


def _not_recorded() -> Refusal:
    return NotRecorded("the service cannot answer now", remedy="try again in a few seconds")


def _too_slow() -> Refusal:
    return ReplicaTooSlow(
        "the replica did not answer in time", remedy="try again, or ask for fewer tokens with stream: true"
    )
