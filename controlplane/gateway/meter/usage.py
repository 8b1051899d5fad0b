"""What one request used, as far as it is known: read from the bytes of the answer, in every dialect."""

from typing import Annotated

import msgspec

# A count that is negative or beyond reason is none: the answer has then told nothing.
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)] | None
_LONGEST_REASON = 32
_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Details(msgspec.Struct, gc=False):
    cached_tokens: _Count = None
    reasoning_tokens: _Count = None


class _Told(msgspec.Struct, gc=False):
    """A usage object, in whatever dialect; no field is there in all of them."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    cached_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
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


class _Stop(msgspec.Struct, gc=False):
    stop_reason: str | None = None


class _Event(_Answer, gc=False):
    """An event of any dialect: a chunk is like an answer, others have one in `message` or `response`."""

    type: str = ""
    delta: _Stop | str | None = None
    message: _Answer | None = None
    response: _Answer | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_EVENT = msgspec.json.Decoder(_Event)


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
            return
        self._end(told)
        if told.usage is not None:
            self.tokens_out = self.tokens_out or 0  # what completes nothing tells of its prompt alone

    def read_events(self, payload: bytes) -> None:
        """Take note of what whole events tell. Only the first and the last ones of a stream tell anything."""
        for line in payload.split(b"\n"):
            if line.startswith(b"data:") and (b'"usage"' in line or b'_reason"' in line):
                try:
                    event = _EVENT.decode(line[5:])
                except (msgspec.DecodeError, RecursionError):
                    continue
                self._hear(event)

    def _hear(self, event: _Event) -> None:
        if event.message is not None:  # an answer of Anthropic's that begins
            if event.message.usage is not None:
                self._read(event.message.usage)
        elif event.response is None:
            self._end(event)
            if isinstance(event.delta, _Stop):
                self._finish(event.delta.stop_reason)
        elif event.type in _FINAL:
            self._end(event.response)

    def _end(self, told: _Answer) -> None:
        """Take note of a usage that is final, if there is one, and of the reason to finish."""
        self._finish(told.finish)
        usage = told.usage
        if usage is None:
            return
        self._read(usage)
        if usage.completion_tokens is not None:
            self.tokens_out, details = usage.completion_tokens, usage.completion_tokens_details
        else:
            details = usage.output_tokens_details
            self.tokens_out = self.tokens_out if usage.output_tokens is None else usage.output_tokens
        if details is not None:
            self.tokens_reasoning = details.reasoning_tokens

    def _read(self, usage: _Told) -> None:
        """Take note of what was read. Anthropic's last event may tell less of it than the first."""
        if usage.tokens_in is not None:
            self.tokens_in = max(usage.tokens_in, self.tokens_in or 0)
        if usage.cached is not None:
            self.tokens_cached = max(usage.cached, self.tokens_cached or 0)

    def _finish(self, reason: str | None) -> None:
        if reason:
            is_word = len(reason) <= _LONGEST_REASON and reason.isascii() and reason.replace("_", "").isalpha()
            self.finish = reason if is_word else "other"
