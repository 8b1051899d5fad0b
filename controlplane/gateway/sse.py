"""Server-sent events pass as bytes, but only whole ones: what follows a lost replica must not join half an event."""

from controlplane.kit.errors import BadInput


class EventTooLarge(BadInput):
    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"one event is over {most_bytes} bytes", remedy="ask for fewer log-probabilities")


class EventGate:
    """Holds back the unfinished tail of a stream."""

    __slots__ = ("_most_bytes", "_tail")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Return every event that is now whole. Raises EventTooLarge."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        if data.endswith((b"\n\n", b"\r\n\r\n")):
            return data
        end = _whole_bytes(data)
        self._tail = data[end:]
        if len(self._tail) > self._most_bytes:
            raise EventTooLarge(self._most_bytes)
        return data[:end]

    @property
    def holds_part(self) -> bool:
        return bool(self._tail)


def _whole_bytes(data: bytes) -> int:
    line_feeds = data.rfind(b"\n\n")
    both = data.rfind(b"\r\n\r\n")
    return max(line_feeds + 2 if line_feeds >= 0 else 0, both + 4 if both >= 0 else 0)
