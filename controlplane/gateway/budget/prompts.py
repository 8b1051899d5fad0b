"""What stands in a prompt, by decoding it: a field may be written with escapes, and bytes alone would not show it."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from controlplane.gateway.surface.reading import ABSENT
from controlplane.gateway.surface.surface import Ask

# What a template writes out in its own way, or reads from elsewhere.
_NOT_TEXT = (
    "tools", "functions", "response_format", "structured_outputs", "chat_template_kwargs", "previous_response_id",
    "audio", "text", "thinking", "prediction", "reasoning", "reasoning_effort",
)  # fmt: skip
_WRITTEN = frozenset({"text", "input_text", "output_text", "refusal"})
_TOOLS = frozenset({"tool", "function"})
_RESULTS = frozenset({"tool_result", "function_call_output"})


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text", "input_text", "output_text"]
    text: str


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that is text and nothing else."""

    role: str
    content: str | list[_Text]
    name: str | None = None
    type: Literal["message"] = "message"


class _Item(msgspec.Struct, gc=False):
    """As much of a message, of an item or of a part as says whose it is."""

    role: str = ""
    type: str = ""
    content: msgspec.Raw = ABSENT


_MESSAGE = msgspec.json.Decoder(_Message)
_TEXTS = msgspec.json.Decoder(str | list[_Text])
_ITEM = msgspec.json.Decoder(_Item)
_ITEMS = msgspec.json.Decoder(list[_Item])


def is_plain(ask: Ask) -> bool:
    """Say whether all that the engine reads is text that stands in the body, each piece once."""
    if any(getattr(ask, name, ABSENT) not in (ABSENT, None) for name in _NOT_TEXT):
        return False
    system = bytes(getattr(ask, "system", ABSENT))
    try:
        if system:
            _TEXTS.decode(system)
        for item in _items(ask):
            _MESSAGE.decode(item)
    except msgspec.DecodeError:  # ValidationError is one
        return False
    return True


def is_written(ask: Ask) -> bool:
    """Say whether no part of a message is anything but text: what else a model reads, not every tokenizer counts."""
    try:
        return all(part.type in _WRITTEN for raw in _items(ask) for part in _parts(_ITEM.decode(raw)))
    except msgspec.DecodeError:
        return False


def follows_a_tool(ask: Ask) -> bool:
    """Say whether the prompt brings a tool's result that the model has not answered yet."""
    for raw in reversed(_items(ask)):
        try:
            item = _ITEM.decode(raw)
            if item.role == "assistant":
                return False
            if item.role in _TOOLS or item.type in _RESULTS or any(part.type in _RESULTS for part in _parts(item)):
                return True
        except msgspec.DecodeError:
            continue
    return False


def _items(ask: Ask) -> Sequence[msgspec.Raw]:
    """Return messages or items, as they stand in the body."""
    told = getattr(ask, "messages", None) or getattr(ask, "input", None)
    return told if isinstance(told, list) and all(isinstance(item, msgspec.Raw) for item in told) else ()


def _parts(item: _Item) -> Iterator[_Item]:
    if bytes(item.content).startswith(b"["):
        yield from _ITEMS.decode(item.content)
