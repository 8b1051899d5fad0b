"""What every completion is asked with, in OpenAI's dialect and beyond it."""

import re
from typing import Annotated

import msgspec

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.surface.asks import AskBase
from controlplane.gateway.surface.reading import ABSENT
from controlplane.gateway.surface.surface import Ask, Orders, isolation, with_fields

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_MOST_CHOICES = 1024  # of one request, n for each prompt
_USAGE_EVENT = re.compile(rb'data:[^\n]*"choices":\[\][^\n]*\n\r?\n')
_TELL_USAGE = b'"stream_options":{"include_usage":true}'


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(AskBase):
    """The fields that chat completions and completions share; a field that is missing is refused by its name."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: AtLeastOne | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    user: str | None = None
    logit_bias: msgspec.Raw = ABSENT
    stop: msgspec.Raw = ABSENT
    # fields beyond OpenAI's that engines understand
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    ignore_eos: bool | None = None
    stop_token_ids: msgspec.Raw = ABSENT
    structured_outputs: msgspec.Raw = ABSENT

    @property
    def completion_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def streamed(self) -> bool:
        return bool(self.stream)

    def require_fit(self, adapter: str) -> None:
        if self.choices > _MOST_CHOICES:
            detail = f"n for each of the prompts asks for {self.choices} completions"
            raise BadRequest(detail, remedy=f"ask for {_MOST_CHOICES} at most", param="n")
        if self.choices > 1 and adapter == "llama_cpp":  # its usage is that of one choice, so others would be free
            detail = "this endpoint gives one completion for a request"
            raise BadRequest(detail, remedy="send one prompt and no n, several times", param="n", code="one_choice")

    @property
    def hides_usage(self) -> bool:
        return bool(self.stream) and not (self.stream_options is not None and self.stream_options.include_usage)


def without_usage(events: bytes) -> bytes:
    """Return the events without the one that tells the usage: it alone has no choices."""
    return _USAGE_EVENT.sub(b"", events) if b'"choices":[]' in events else events


def ordered(ask: Ask, body: bytes, bounds: list[bytes], orders: Orders) -> bytes:
    """Return the body with its bounds, the question for its usage, and what divides the cache of prompts."""
    told = [_TELL_USAGE] if ask.hides_usage else []
    return with_fields(body, [*bounds, *told, *isolation(orders)])
