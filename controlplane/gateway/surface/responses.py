"""OpenAI's Responses: one answer at a time, nothing kept between them."""

from typing import Annotated, TypeVar

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI, RESPONSES
from controlplane.gateway.surface.asks import AskBase
from controlplane.gateway.surface.generation import AtLeastOne
from controlplane.gateway.surface.parts import require_input_parts
from controlplane.gateway.surface.reading import ABSENT, as_bytes, not_kept, read_body, require_own_tools
from controlplane.gateway.surface.surface import Orders, bound, isolation, with_fields

_Input = str | Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
_TOOLS = frozenset({"function", "custom"})


class _Told(AskBase):
    """What the engine reads."""

    input: _Input
    instructions: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning: msgspec.Raw = ABSENT
    text: msgspec.Raw = ABSENT
    tool_choice: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    truncation: msgspec.Raw = ABSENT
    # what names something that is kept
    conversation: msgspec.Raw = ABSENT
    previous_response_id: str | None = None

    @property
    def prompt(self) -> list[bytes]:
        first = [*as_bytes(self.tools), *([self.instructions.encode()] if self.instructions else [])]
        parts = [self.input.encode()] if isinstance(self.input, str) else map(bytes, self.input)
        return [*first, *parts]


class ResponseAsk(_Told):
    stream: bool | None = None
    max_output_tokens: AtLeastOne | None = None
    store: bool | None = None
    background: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_tool_calls: int | None = None
    user: str | None = None
    include: msgspec.Raw = ABSENT
    metadata: msgspec.Raw = ABSENT
    prompt_cache_key: msgspec.Raw = ABSENT
    safety_identifier: msgspec.Raw = ABSENT
    stream_options: msgspec.Raw = ABSENT

    @property
    def streamed(self) -> bool:
        return bool(self.stream)

    @property
    def completion_tokens(self) -> int | None:
        return self.max_output_tokens

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        kept = [] if self.store is False else [b'"store":false']
        return with_fields(body, [*bound(b"max_output_tokens", self, orders), *kept, *isolation(orders)])


class InputAsk(_Told):
    """Asks how many tokens a response would read."""


_AnyAsk = TypeVar("_AnyAsk", bound=_Told)


class Responses:
    name: SurfaceName = "responses"
    path = engine_path = b"/v1/responses"
    errors = RESPONSES

    def read(self, body: bytes) -> ResponseAsk:
        ask = read_body(_DECODER, body, "a response")
        if ask.store or ask.background:
            raise not_kept("store" if ask.store else "background")
        return _checked(ask)


class InputTokens:
    name: SurfaceName = "count_tokens"
    path = engine_path = b"/v1/responses/input_tokens"
    errors = OPENAI

    def read(self, body: bytes) -> InputAsk:
        return _checked(read_body(_INPUT_DECODER, body, "a count of input tokens"))


def _checked(ask: _AnyAsk) -> _AnyAsk:
    for name, value in (
        ("previous_response_id", ask.previous_response_id),
        ("conversation", as_bytes(ask.conversation)),
    ):
        if value:
            raise not_kept(name)
    if isinstance(ask.input, list):
        require_input_parts(ask.input)
    require_own_tools(ask.tools, _TOOLS)
    return ask


_DECODER = msgspec.json.Decoder(ResponseAsk)
_INPUT_DECODER = msgspec.json.Decoder(InputAsk)
