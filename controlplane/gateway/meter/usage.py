"""What one request used, as far as it is known: read from the bytes of the answer, in every dialect."""

import re

import msgspec

# Inside a JSON string a quote is escaped: no generated text can look like one of these.
_USAGE = re.compile(rb'"usage":[ \t]*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}')
_COUNT = re.compile(
    rb'"((?:prompt|completion|input|output|cached|reasoning|cache_read_input|cache_creation_input)_tokens)":'
    rb"[ \t]*([0-9]{1,15})"
)
_REASON = b'_reason":"'  # of finish_reason and stop_reason; null has no quote
_LONGEST_REASON = 32
_FINAL = (b"message_delta", b"response.completed", b"response.incomplete", b"response.failed")


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Told(msgspec.Struct, gc=False):
    """A usage object, in whatever dialect; no field is there in all of them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    @property
    def tokens_in(self) -> int | None:
        if self.prompt_tokens is not None or self.input_tokens is None:
            return self.prompt_tokens
        return self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)

    @property
    def cached(self) -> int | None:
        details = self.prompt_tokens_details or self.input_tokens_details
        if details is not None:
            return details.cached_tokens
        return self.cache_read_input_tokens if self.cached_tokens is None else self.cached_tokens


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    """The little that is read of an answer; the rest is passed over."""

    usage: _Told | None = None
    choices: tuple[_Choice, ...] = ()
    stop_reason: str | None = None
    status: str | None = None

    @property
    def finish(self) -> str:
        if self.choices:
            return self.choices[-1].finish_reason or ""
        if self.stop_reason is not None:
            return self.stop_reason
        if self.usage is None or self.usage.output_tokens is None:
            return ""
        return "length" if self.status == "incomplete" else "stop"


_ANSWER = msgspec.json.Decoder(_Answer)


class Usage(msgspec.Struct, gc=False):
    """Tokens None where the replica has not told; `events` is how many came.

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
        """Take note of what a whole answer tells."""
        try:
            told = _ANSWER.decode(body)
        except (msgspec.DecodeError, RecursionError):
            self._read_odd_answer(body)
            return
        self.finish = told.finish
        if told.usage is not None:
            self._count(told.usage)
            self.tokens_out = self.tokens_out or 0  # what completes nothing tells of its prompt alone

    def _count(self, told: "_Told") -> None:
        self.tokens_in = told.tokens_in
        self.tokens_cached = told.cached
        if told.completion_tokens is not None:
            self.tokens_out, details = told.completion_tokens, told.completion_tokens_details
        else:
            self.tokens_out, details = told.output_tokens, told.output_tokens_details
        if details is not None:
            self.tokens_reasoning = details.reasoning_tokens

    def _read_odd_answer(self, body: bytes) -> None:
        """Read what has other types than it should. The last word counts: before it may stand what the client sent."""
        at = body.rfind(b'"usage"')
        found = _USAGE.match(body, at) if at >= 0 else None
        if found is not None:
            self._take(found[1], final=True)
            self.tokens_out = self.tokens_out or 0
        self._finish(body)

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
        at = payload.rfind(_REASON)
        if at >= 0:
            start = at + len(_REASON)
            word = payload[start : payload.find(b'"', start)]
            if len(word) <= _LONGEST_REASON and word.replace(b"_", b"").isalpha():
                self.finish = word.decode()


def _event_name(payload: bytes, at: int) -> bytes:
    """Return the name of the event at that place, b"" without one. A line feed within its data is escaped."""
    start = payload.rfind(b"\ndata:", 0, at)
    line = payload.rfind(b"\n", 0, start) + 1 if start > 0 else 0
    end = payload.find(b"\n", line)
    return payload[line + 7 : end].strip() if payload.startswith(b"event: ", line) else b""


def _of_response(payload: bytes) -> str:
    return "length" if b'"status":"incomplete"' in payload else "stop"
