"""The last events of a stream that the gateway ends at its limit, in the words of each dialect."""

import re
from typing import Final

import msgspec

from controlplane.contracts.snapshot import Surface

_SAME = re.compile(rb'"(id|created|model|system_fingerprint)":("(?:[^"\\]|\\.)*"|[0-9]+)')
DONE: Final = b"data: [DONE]\n\n"


def at_limit(surface: Surface, first: bytes) -> bytes:
    """Return events that say the answer was cut for length; `first` are events of the same stream."""
    match surface:
        case "chat":
            choice = b'{"index":0,"delta":{},"finish_reason":"length"}'
            return _openai(first, b"chat.completion.chunk", choice)
        case "completions":
            choice = b'{"index":0,"text":"","logprobs":null,"finish_reason":"length"}'
            return _openai(first, b"text_completion", choice)
        case "messages":
            return _MESSAGE_CUT
        case "responses":
            return _response_cut(first)
        case _:
            return DONE


def _openai(first: bytes, kind: bytes, choice: bytes) -> bytes:
    event = b'data: {"object":"%b","choices":[%b]%b}\n\n' % (kind, choice, _what_stays(first))
    return event + DONE


def _what_stays(first: bytes) -> bytes:
    """Return the fields that every event of one stream repeats."""
    fields = dict(_SAME.findall(first.partition(b"\n")[0]))
    return b"".join(b',"%b":%b' % (name, value) for name, value in fields.items())


_MESSAGE_CUT = (
    b"event: message_delta\n"
    b'data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},'
    b'"usage":{"output_tokens":0}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


class _Response(msgspec.Struct):
    response: dict[str, msgspec.Raw]


def _response_cut(first: bytes) -> bytes:
    """Repeat the response as it was created, incomplete now."""
    data = first.partition(b"data: ")[2].partition(b"\n")[0]
    try:
        response = msgspec.json.decode(data, type=_Response).response
    except ValueError:
        response = {}
    response["status"] = msgspec.Raw(b'"incomplete"')
    response["incomplete_details"] = msgspec.Raw(b'{"reason":"max_output_tokens"}')
    event = msgspec.json.encode({"type": "response.incomplete", "response": response})
    return b"event: response.incomplete\ndata: %b\n\n" % event
