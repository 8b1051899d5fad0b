"""What one request used, as far as it is known: read from the bytes of the answer, in every dialect."""

import re

import msgspec

# Inside a JSON string a quote is escaped: no generated text can look like one of these.
_USAGE = re.compile(rb'"usage":[ \t]*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}')
_COUNT = re.compile(
    rb'"((?:prompt|completion|input|output|cached|reasoning|cache_read_input|cache_creation_input)_tokens)":'
    rb"[ \t]*([0-9]{1,15})"
)
_FINISH = re.compile(rb'"(?:finish|stop)_reason":[ \t]*"([a-z_]{1,32})"')
_FINAL = (b"message_delta", b"response.completed", b"response.incomplete", b"response.failed")


class Usage(msgspec.Struct, gc=False):
    """Tokens None where the replica has not told; `events` is how many the client was sent.

    `tokens_in` holds `tokens_cached`, `tokens_out` holds `tokens_reasoning`. `finish` is the engine's word.
    `wall_us` is from its seat at a replica to its end, `gpu_us` its part of the time of the replica's GPUs.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    tokens_reasoning: int | None = None
    events: int = 0
    wall_us: int = 0
    gpu_us: int = 0
    dispatched: bool = False  # a replica may have heard of it
    finish: str = ""

    def read_answer(self, body: bytes) -> None:
        """Take note of what a whole answer tells. The last word counts: before it may stand what the client sent."""
        at = body.rfind(b'"usage"')
        found = _USAGE.match(body, at) if at >= 0 else None
        if found is not None:
            self._take(found[1], final=True)
            self.tokens_out = self.tokens_out or 0  # what completes nothing tells of its prompt alone
        self._finish(body)
        if not self.finish and b'"output_tokens"' in body:
            self.finish = _of_response(body)

    def read_events(self, payload: bytes) -> None:
        """Take note of what whole events tell. Only the first and the last ones of a stream tell anything."""
        for found in _USAGE.finditer(payload):
            name = _event_name(payload, found.start())
            if not name or name in _FINAL:
                self._take(found[1], final=True)
            elif name == b"message_start":
                self._take(found[1], final=False)
            if name.startswith(b"response."):
                self.finish = _of_response(payload)
        self._finish(payload)

    def _take(self, told: bytes, *, final: bool) -> None:
        counts = {name: int(count) for name, count in _COUNT.findall(told)}
        cached = counts.get(b"cached_tokens", counts.get(b"cache_read_input_tokens"))
        if cached is not None:
            self.tokens_cached = max(cached, self.tokens_cached or 0)
        tokens_in = counts.get(b"prompt_tokens")
        if tokens_in is None and b"input_tokens" in counts:  # Anthropic counts cached ones apart
            apart = counts.get(b"cache_read_input_tokens", 0) + counts.get(b"cache_creation_input_tokens", 0)
            tokens_in = counts[b"input_tokens"] + apart
        if tokens_in is not None:
            self.tokens_in = max(tokens_in, self.tokens_in or 0)
        if final:
            self.tokens_out = counts.get(b"completion_tokens", counts.get(b"output_tokens", self.tokens_out))
            self.tokens_reasoning = counts.get(b"reasoning_tokens", self.tokens_reasoning)

    def _finish(self, payload: bytes) -> None:
        reasons = _FINISH.findall(payload)
        if reasons:
            self.finish = reasons[-1].decode()


def _event_name(payload: bytes, at: int) -> bytes:
    """Return the name of the event at that place, b"" without one. A line feed within its data is escaped."""
    start = payload.rfind(b"\ndata:", 0, at)
    line = payload.rfind(b"\n", 0, start) + 1 if start > 0 else 0
    end = payload.find(b"\n", line)
    return payload[line + 7 : end].strip() if payload.startswith(b"event: ", line) else b""


def _of_response(payload: bytes) -> str:
    return "length" if b'"status":"incomplete"' in payload else "stop"
