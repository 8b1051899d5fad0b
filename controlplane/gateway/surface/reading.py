"""Bodies are read by allow-lists: a field that no list names is refused by its name."""

import re
from typing import Final, TypeVar

import msgspec

from controlplane.gateway.errors import BadRequest

ABSENT = msgspec.Raw()
_FIELD = re.compile(r"field `([^`]*)`|at `\$\.?([^`]*)`")
_Ask = TypeVar("_Ask")

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


def read_body(decoder: msgspec.json.Decoder[_Ask], body: bytes, what: str) -> _Ask:
    """Parse a body; `what` it is, in words. Raises BadRequest that names the field."""
    try:
        if not body.isascii():
            body.decode()  # Raw fields are passed over without a look at their UTF-8
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_field(str(error), what) from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from None


def not_kept(param: str) -> BadRequest:
    """Return the refusal of a field that asks for something to be stored, or names something stored."""
    return BadRequest(f"{param} is about what is kept, and no answer is ever kept", remedy="leave it out", param=param)


def _wrong_field(message: str, what: str) -> BadRequest:
    found = _FIELD.search(message)
    name = (found[1] or found[2] or "")[:100] if found else None
    remedy = f"see the reference of {what} for the fields and their types"
    if "unknown field" not in message:
        return BadRequest(message[:300], remedy=remedy, param=name)
    if name in ENGINE_ONLY:
        detail = f"{name} belongs to the inference server and no client may set it"
        return BadRequest(detail, remedy=f"leave {name} out", param=name, code="field_not_allowed")
    detail = f"{name} is no field of {what}"
    return BadRequest(detail, remedy=f"leave it out or correct it; {remedy}", param=name, code="unknown_field")


def _unreadable(error: Exception) -> BadRequest:
    if isinstance(error, RecursionError):
        return BadRequest("the body is nested too deep", remedy="send flatter JSON")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("the body is not UTF-8", remedy="send JSON in UTF-8")
    return BadRequest(f"the body is not JSON: {error}", remedy="send one JSON object")


class _Tool(msgspec.Struct):
    type: str = ""


def require_own_tools(tools: msgspec.Raw, kinds: frozenset[str]) -> None:
    """Raise BadRequest for tools that somebody else than the client would run: nothing here runs any."""
    for tool in _read_tools(bytes(tools)) or ():
        if tool.type not in kinds:
            detail = f"a tool of type {tool.type[:100]!r} would run on the server, and none does"
            raise BadRequest(detail, remedy="send tools that you run yourself", param="tools", code="tool_not_allowed")


def as_bytes(raw: msgspec.Raw) -> list[bytes]:
    """Return the field's bytes in a list, which is empty when it was left out or null."""
    told = bytes(raw)
    return [] if told in {b"", b"null"} else [told]


def _read_tools(tools: bytes) -> list[_Tool] | None:
    try:
        return _TOOLS.decode(tools) if tools else None
    except ValueError:
        raise BadRequest("tools is no list of tools", remedy="send a list of objects", param="tools") from None


_TOOLS = msgspec.json.Decoder(list[_Tool] | None)
