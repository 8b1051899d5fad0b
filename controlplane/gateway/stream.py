"""A streamed answer on its way to the client: whole events alone, in the client's coding, and one end."""

from controlplane.gateway import answer, closing
from controlplane.gateway.chunked import LAST, chunk
from controlplane.gateway.errors import Refusal
from controlplane.gateway.request import Request
from controlplane.gateway.sse import EventGate
from controlplane.gateway.surface.generation import without_usage
from controlplane.gateway.surroundings import Client

_END = b"\n\n"
_HEARTBEAT = b": waiting\n\n"  # a comment: every reader of events passes over it


class Stream:
    """`opened` once the client has the head, so that nothing can be refused with a status; `begun` with an event.

    `events` counts what came of the replica.
    """

    __slots__ = ("_client", "_first", "_gate", "_request", "begun", "events", "opened")

    def __init__(self, client: Client, request: Request, event_bytes: int) -> None:
        self._client = client
        self._request = request
        self._gate = EventGate(event_bytes)
        self._first = b""
        self.opened = False
        self.begun = False
        self.events = 0

    def whole_events(self, payload: bytes) -> bytes:
        """Return the events that this part completes. Raises EventTooLarge."""
        events = self._gate.feed(payload)
        self.events += events.count(_END)
        return events

    @staticmethod
    def first_of(events: bytes, *, fewer: int) -> bytes:
        """Return the events but for the last ones, of which there are `fewer`."""
        parts = events.split(_END)
        return b"".join(part + _END for part in parts[: max(0, len(parts) - 1 - fewer)])

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
