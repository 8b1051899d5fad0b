"""What a prompt may be made of: text, and media within the request. No engine fetches what a client names."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.surface.reading import ABSENT, as_bytes

_DEEPEST = 3  # results of tools within results of tools
_Inline = Annotated[str, msgspec.Meta(pattern="^data:")]


class _Media(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    url: _Inline
    detail: str | None = None


class _ChatPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text", "refusal", "image_url", "video_url", "audio_url", "input_audio"]
    text: str | None = None
    refusal: str | None = None
    image_url: _Media | None = None
    video_url: _Media | None = None
    audio_url: _Media | None = None
    input_audio: msgspec.Raw = ABSENT
    cache_control: msgspec.Raw = ABSENT


class _InputPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["input_text", "output_text", "summary_text", "reasoning_text", "refusal", "input_image"]
    text: str | None = None
    refusal: str | None = None
    image_url: _Inline | None = None
    detail: str | None = None
    annotations: msgspec.Raw = ABSENT
    logprobs: msgspec.Raw = ABSENT


class _Source(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["base64", "text"]
    media_type: str
    data: str


class _Block(msgspec.Struct, gc=False):
    type: Literal["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"]
    source: _Source | None = None
    content: msgspec.Raw = ABSENT


class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = ABSENT


class _Item(msgspec.Struct, gc=False):
    type: Literal[
        "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"
    ] = "message"
    content: msgspec.Raw = ABSENT
    output: msgspec.Raw = ABSENT


_MESSAGE = msgspec.json.Decoder(_Message)
_ITEM = msgspec.json.Decoder(_Item)
_CHAT = msgspec.json.Decoder(str | list[_ChatPart] | None)
_INPUT = msgspec.json.Decoder(str | list[_InputPart] | None)
_BLOCKS = msgspec.json.Decoder(str | list[_Block])


def may_hold_parts(body: bytes) -> bool:
    """Say whether a body with a list of messages holds any other list; brackets cannot be written with escapes."""
    return body.find(b"[", body.find(b"[") + 1) >= 0  # nine times as fast as to count them


def require_chat_parts(messages: Iterable[msgspec.Raw]) -> None:
    """Raise BadRequest for a part of a chat that is not text, or media that are not in it."""
    try:
        for message in messages:
            for content in as_bytes(_MESSAGE.decode(message).content):
                _CHAT.decode(content)
    except (ValueError, RecursionError) as error:
        raise _not_allowed(error, "messages") from None


def require_input_parts(items: Iterable[msgspec.Raw]) -> None:
    """Raise BadRequest for an item or a part of a response's input that names something elsewhere."""
    try:
        for raw in items:
            item = _ITEM.decode(raw)
            for content in (*as_bytes(item.content), *as_bytes(item.output)):
                _INPUT.decode(content)
    except (ValueError, RecursionError) as error:
        raise _not_allowed(error, "input") from None


def require_blocks(messages: Iterable[msgspec.Raw], system: msgspec.Raw) -> None:
    """Raise BadRequest for a block of Anthropic's messages that names something elsewhere."""
    try:
        contents = [content for message in messages for content in as_bytes(_MESSAGE.decode(message).content)]
        for _ in range(_DEEPEST):
            contents = [inner for content in (*contents, *as_bytes(system)) for inner in _results(content)]
            system = ABSENT
    except (ValueError, RecursionError) as error:
        raise _not_allowed(error, "messages") from None
    if contents:
        raise _not_allowed(ValueError("results of tools are nested too deep"), "messages")


def _results(content: bytes) -> Iterator[bytes]:
    """Return what results of tools hold in turn."""
    blocks = _BLOCKS.decode(content)
    for block in blocks if isinstance(blocks, list) else ():
        if block.type == "tool_result":
            yield from (inner for inner in as_bytes(block.content) if inner.startswith(b"["))


def _not_allowed(error: Exception, param: str) -> BadRequest:
    return BadRequest(
        f"a part of {param} cannot be passed on: {str(error)[:200]}",
        remedy="send text, or media as base64 within the request: nothing here fetches from elsewhere",
        param=param,
        code="part_not_allowed",
    )
