"""A streamed answer on its way to the client: whole events alone, in the client's coding, and one end."""

from controlplane.gateway import answer
from controlplane.gateway.chunked import LAST, chunk
from controlplane.gateway.errors import Refusal
from controlplane.gateway.request import Request
from controlplane.gateway.sse import EventGate
from controlplane.gateway.surface.generation import without_usage
from controlplane.gateway.surroundings import Client


class Stream:
    """`begun` once the client has the head: from then on nothing can be refused with a status."""

    __slots__ = ("_client", "_gate", "_request", "begun")

    def __init__(self, client: Client, request: Request, event_bytes: int) -> None:
        self._client = client
        self._request = request
        self._gate = EventGate(event_bytes)
        self.begun = False

    def whole_events(self, payload: bytes) -> bytes:
        """Return the events that this part completes. Raises EventTooLarge."""
        return self._gate.feed(payload)

    def for_client(self, events: bytes) -> bytes:
        """Return what of the events the client asked for."""
        return without_usage(events) if self._request.ask.hides_usage else events

    @property
    def holds_part(self) -> bool:
        return self._gate.holds_part

    def begin(self, endpoint_headers: bytes, events: bytes) -> None:
        """Send the head and the first events in one packet."""
        self.begun = True
        client = self._client
        head = answer.stream_head(
            endpoint_headers, self._request.request_id, keep_alive=client.keep_alive, chunked=client.chunked_answers
        )
        client.write(head + self._framed(events))

    def write(self, events: bytes) -> None:
        self._client.write(self._framed(events))

    def end(self) -> None:
        """The answer is complete."""
        if self._client.chunked_answers:
            self._client.write(LAST)
        self._client.answered()

    def break_off(self, refusal: Refusal) -> None:
        """Send an event that says why it cannot go on, and leave the stream without its end."""
        request = self._request
        self._client.write(self._framed(request.surface.errors.event(refusal, request.request_id)))
        self._client.leave()

    def _framed(self, events: bytes) -> bytes:
        return chunk(events) if self._client.chunked_answers else events
