"""Chat completions: the few fields we act on are typed, the rest is passed on as the bytes it came in."""

from typing import Annotated

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.error_shapes import OPENAI
from controlplane.gateway.surface.generation import AtLeastOne, Generation, ordered
from controlplane.gateway.surface.parts import may_hold_parts, require_chat_parts
from controlplane.gateway.surface.reading import ABSENT, not_kept, read_body
from controlplane.gateway.surface.surface import Orders, bound


class TemplateWords(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What a client may tell a chat template; anything else could replace the template, or what it is given."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    thinking_budget: int | None = None
    reasoning_effort: Annotated[str, msgspec.Meta(max_length=20)] | None = None
    date_string: Annotated[str, msgspec.Meta(max_length=40)] | None = None


class ChatAsk(Generation, kw_only=True):
    messages: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    max_completion_tokens: AtLeastOne | None = None
    store: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None
    audio: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    functions: msgspec.Raw = ABSENT
    metadata: msgspec.Raw = ABSENT
    modalities: msgspec.Raw = ABSENT
    prediction: msgspec.Raw = ABSENT
    prompt_cache_key: msgspec.Raw = ABSENT
    reasoning_effort: msgspec.Raw = ABSENT
    response_format: msgspec.Raw = ABSENT
    safety_identifier: msgspec.Raw = ABSENT
    tool_choice: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    verbosity: msgspec.Raw = ABSENT
    # fields beyond OpenAI's that engines understand
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateWords | None = None
    include_reasoning: bool | None = None

    @property
    def completion_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens  # engines prefer the first too

    @property
    def prompt(self) -> list[bytes]:
        tools = [bytes(self.tools)] if self.tools is not ABSENT else []
        return [*tools, *map(bytes, self.messages)]

    def to_engine(self, body: bytes, orders: Orders) -> bytes:
        name = b"max_completion_tokens" if self.max_completion_tokens else b"max_tokens"
        return ordered(self, body, bound(name, self, orders), orders)


class Chat:
    name: SurfaceName = "chat"
    path = engine_path = b"/v1/chat/completions"
    errors = OPENAI

    def read(self, body: bytes) -> ChatAsk:
        ask = read_body(_DECODER, body, "a chat completion")
        if ask.store:
            raise not_kept("store")
        if may_hold_parts(body):
            require_chat_parts(ask.messages)
        return ask


_DECODER = msgspec.json.Decoder(ChatAsk)
