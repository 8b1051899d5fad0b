"""Chat completions: the few fields we act on are typed, the rest is passed on as the bytes it came in."""

import re
from typing import Annotated, Final

import msgspec

from controlplane.contracts.snapshot import Surface as SurfaceName
from controlplane.gateway.errors import BadRequest
from controlplane.gateway.surface.surface import Ask, Orders, with_fields

_ABSENT = msgspec.Raw()
_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_REMEDY = "see the OpenAI chat completions reference for the fields and their types"

# What only the gateway may say to an engine: cache identity, order of service, slots, weights, prompt templates.
ENGINE_ONLY: Final = frozenset(
    {
        "bootstrap_host",
        "bootstrap_port",
        "bootstrap_room",
        "cache_prompt",
        "cache_salt",
        "chat_template",
        "data_parallel_rank",
        "id_slot",
        "kv_transfer_params",
        "lora",
        "lora_path",
        "n_cache_reuse",
        "n_discard",
        "n_keep",
        "priority",
        "request_id",
        "rid",
        "session_id",
        "slot_id",
        "vllm_xargs",
    }
)


class ChatAsk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The allow-list. A field that is missing here is refused by its name."""

    model: str
    messages: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    max_tokens: _AtLeastOne | None = None
    max_completion_tokens: _AtLeastOne | None = None
    n: int | None = None
    store: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    parallel_tool_calls: bool | None = None
    audio: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT
    functions: msgspec.Raw = _ABSENT
    logit_bias: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    modalities: msgspec.Raw = _ABSENT
    prediction: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT
    reasoning_effort: msgspec.Raw = _ABSENT
    response_format: msgspec.Raw = _ABSENT
    safety_identifier: msgspec.Raw = _ABSENT
    stop: msgspec.Raw = _ABSENT
    stream_options: msgspec.Raw = _ABSENT
    tool_choice: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    verbosity: msgspec.Raw = _ABSENT
    # fields beyond OpenAI's that engines understand
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    ignore_eos: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: msgspec.Raw = _ABSENT
    stop_token_ids: msgspec.Raw = _ABSENT
    structured_outputs: msgspec.Raw = _ABSENT
    include_reasoning: bool | None = None

    @property
    def streamed(self) -> bool:
        return bool(self.stream)

    @property
    def completion_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def choices(self) -> int:
        return self.n or 1

    @property
    def prompt(self) -> list[bytes]:
        tools = [bytes(self.tools)] if self.tools is not _ABSENT else []
        return [*tools, *map(bytes, self.messages)]


class Chat:
    name: SurfaceName = "chat"
    path = engine_path = b"/v1/chat/completions"

    def read(self, body: bytes) -> ChatAsk:
        return read_ask(body)

    def to_engine(self, ask: Ask, body: bytes, orders: Orders) -> bytes:
        return body if ask.completion_tokens else with_fields(body, b'"max_tokens":%d' % orders.most_tokens)


_DECODER = msgspec.json.Decoder(ChatAsk)
_FIELD = re.compile(r"field `([^`]*)`|at `\$\.?([^`]*)`")


def read_ask(body: bytes) -> ChatAsk:
    """Parse a request body. Raises BadRequest that names the field."""
    try:
        if not body.isascii():
            body.decode()  # Raw fields are passed over without a look at their UTF-8
        ask = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from None
    if ask.store:
        raise BadRequest("store is true and no completion is ever kept", remedy="send store: false", param="store")
    return ask


def _wrong_field(message: str) -> BadRequest:
    found = _FIELD.search(message)
    name = (found[1] or found[2]) if found else None
    if "unknown field" not in message:
        return BadRequest(message[:300], remedy=_REMEDY, param=name)
    if name in ENGINE_ONLY:
        detail = f"{name} belongs to the inference server and no client may set it"
        return BadRequest(detail, remedy=f"leave {name} out", param=name, code="field_not_allowed")
    detail = f"{str(name)[:100]} is no field of a chat completion"
    return BadRequest(
        detail, remedy=f"leave it out or correct the spelling; {_REMEDY}", param=name, code="unknown_field"
    )


def _unreadable(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deep", remedy="send flatter JSON")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("the body is not UTF-8", remedy="send JSON in UTF-8")
    return BadRequest(f"the body is not JSON: {error}", remedy="send one JSON object")
