"""Anthropic's Messages, and how many tokens one would read."""

from typing import Annotated, TypeVar

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import ANTHROPIC
from controlplane.gateway.surface.asks import AskBase
from controlplane.gateway.surface.generation import AtLeastOne
from controlplane.gateway.surface.parts import may_hold_parts, require_blocks
from controlplane.gateway.surface.reading import ABSENT, as_bytes, read_body, require_own_tools
from controlplane.gateway.surface.surface import Orders, bound, isolation, with_fields

_TOOLS = frozenset({"", "custom"})


class CountAsk(AskBase):
    """What the engine reads."""

    messages: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    cache_control: msgspec.Raw = ABSENT
    system: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    tool_choice: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT

    @property
    def prompt(self) -> list[bytes]:
        return [*as_bytes(self.tools), *as_bytes(self.system), *map(bytes, self.messages)]


class MessageAsk(CountAsk):
    stream: bool | None = None
    max_tokens: AtLeastOne | None = None
    metadata: msgspec.Raw = ABSENT
    service_tier: str | None = None
    stop_sequences: msgspec.Raw = ABSENT
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None

    @property
    def streamed(self) -> bool:
        return bool(self.stream)

    @property
    def completion_tokens(self) -> int | None:
        return self.max_tokens

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        return with_fields(body, [*bound(b"max_tokens", self, orders), *isolation(orders)])


_AnyAsk = TypeVar("_AnyAsk", bound=CountAsk)


class Messages:
    name: SurfaceName = "messages"
    path = engine_path = b"/v1/messages"
    errors = ANTHROPIC

    def read(self, body: bytes) -> MessageAsk:
        return _checked(read_body(_DECODER, body, "a message"), body)


class CountTokens:
    name: SurfaceName = "count_tokens"
    path = engine_path = b"/v1/messages/count_tokens"
    errors = ANTHROPIC

    def read(self, body: bytes) -> CountAsk:
        return _checked(read_body(_COUNT_DECODER, body, "a count of tokens"), body)


def _checked(ask: _AnyAsk, body: bytes) -> _AnyAsk:
    if may_hold_parts(body):
        require_blocks(ask.messages, ask.system)
    require_own_tools(ask.tools, _TOOLS)
    return ask


_DECODER = msgspec.json.Decoder(MessageAsk)
_COUNT_DECODER = msgspec.json.Decoder(CountAsk)
