"""A streamed answer on its way to the client: whole events alone, in the client's coding, and one end."""

from controlplane.gateway import answer, closing
from controlplane.gateway.chunked import LAST, chunk
from controlplane.gateway.errors import Refusal
from controlplane.gateway.request import Request
from controlplane.gateway.resume import Splice, continued, recall_for, says_why_it_ended
from controlplane.gateway.sse import EventGate
from controlplane.gateway.surface.generation import without_usage
from controlplane.gateway.surroundings import Client

_LINES = {"messages": 3, "responses": 3}  # theirs have names
_HEARTBEAT = b": waiting\n\n"  # a comment: every reader of events passes over it


class Stream:
    """`opened` once the client has the head, so that nothing can be refused with a status; `begun` with an event.

    `lines` counts what came of the replica.
    """

    __slots__ = (
        "_client",
        "_event_bytes",
        "_first",
        "_gate",
        "_latest",
        "_recall",
        "_request",
        "_splice",
        "begun",
        "lines",
        "opened",
    )

    def __init__(self, client: Client, request: Request, event_bytes: int) -> None:
        self._client = client
        self._request = request
        self._event_bytes = event_bytes
        self._gate = EventGate(event_bytes)
        self._recall = recall_for(request)
        self._splice: Splice | None = None
        self._first = b""
        self._latest = (b"", b"", b"")  # the reason, the usage, the end
        self.opened = False
        self.begun = False
        self.lines = 0

    def whole_events(self, payload: bytes) -> bytes:
        """Return the events that this part completes. Raises EventTooLarge."""
        events = self._gate.feed(payload)
        self.lines += events.count(b"\n")
        if self._splice is not None:
            events = self._splice.mend(events)
        if self._recall is not None:
            self._recall.keep(events)
        if events:
            self._latest = (self._latest[1], self._latest[2], events)
        return events

    def restart(self) -> None:
        """The request is sent anew, before the client had an event: half a one is not to be joined to the next."""
        self._gate = EventGate(self._event_bytes)
        self._recall = recall_for(self._request)

    def go_on(self, body: bytes, *, most_tokens: int) -> bytes | None:
        """Return the request as another replica gets it, which goes on where this one broke; None if none can."""
        recall = self._recall
        if recall is None or self._splice is not None:
            return None
        self.restart()
        self._splice = Splice(self._first, recall)
        return continued(body, recall, most_tokens=most_tokens)

    @property
    def is_finished(self) -> bool:
        """The model has said why it ended; nothing is missing but the end, and a usage that nobody asked for."""
        ask = self._request.ask  # of several choices each says so, and others may still be under way
        return ask.hides_usage and ask.choices == 1 and says_why_it_ended(b"".join(self._latest))

    @staticmethod
    def within(events: bytes, most_lines: int) -> bytes:
        """Return the first whole events of so many lines at most."""
        end = b"\n".join(events.split(b"\n", most_lines)[:most_lines]).rfind(b"\n\n")
        return events[: end + 2] if end >= 0 else b""

    @property
    def events(self) -> int:
        """Return how many events came so far: each is of its lines and an empty one."""
        return self.lines // _LINES.get(self._request.surface.name, 2)

    def for_client(self, events: bytes) -> bytes:
        """Return what of the events the client asked for."""
        return without_usage(events) if self._request.ask.hides_usage else events

    @property
    def holds_part(self) -> bool:
        return self._gate.holds_part

    def begin(self, headers: bytes, events: bytes) -> None:
        """Send the first events, in one packet with the head if that is still to come."""
        self.begun = True
        self._first = events
        framed = self._framed(events)
        self._client.write(framed if self.opened else self._head(headers) + framed)

    def beat(self, headers: bytes) -> None:
        """Tell a client that waits that it still does."""
        framed = self._framed(_HEARTBEAT)
        self._client.write(framed if self.opened else self._head(headers) + framed)

    def _head(self, headers: bytes) -> bytes:
        self.opened = True
        client = self._client
        return answer.stream_head(
            headers, self._request.request_id, keep_alive=client.keep_alive, chunked=client.chunked_answers
        )

    def write(self, events: bytes) -> None:
        self._client.write(self._framed(events))

    def end(self) -> None:
        """The answer is complete."""
        if self._client.chunked_answers:
            self._client.write(LAST)
        self._client.answered()

    def finish(self) -> None:
        """End what at most its last word is missing of."""
        if not self._latest[-1].endswith(closing.DONE):
            self.write(closing.DONE)
        self.end()

    def cut(self) -> None:
        """End as if the model had come to its limit."""
        self.write(closing.at_limit(self._request.surface.name, self._first))
        self.end()

    def break_off(self, refusal: Refusal) -> None:
        """Send an event that says why it cannot go on, and leave the stream without its end."""
        request = self._request
        self._client.write(self._framed(request.surface.errors.event(refusal, request.request_id)))
        self._client.leave()

    def _framed(self, events: bytes) -> bytes:
        return chunk(events) if self._client.chunked_answers else events
