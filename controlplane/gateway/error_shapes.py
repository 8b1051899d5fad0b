"""A refusal as each dialect's clients expect it: a body before an answer began, an event after."""

from typing import Protocol

import msgspec

from controlplane.gateway.errors import Refusal


class ErrorShape(Protocol):
    def body(self, refusal: Refusal, request_id: bytes) -> bytes:
        """Return the body of an answer that refuses."""
        ...

    def event(self, refusal: Refusal, request_id: bytes) -> bytes:
        """Return the last event of a stream that cannot go on."""
        ...


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str


class _ErrorBody(msgspec.Struct):
    error: _Error


class OpenAi:
    """Chat completions know no error event of their own; clients read an `error` in the data."""

    def body(self, refusal: Refusal, request_id: bytes) -> bytes:  # noqa: ARG002 - the id is in a header
        return msgspec.json.encode(_ErrorBody(_Error(_told(refusal), refusal.type, refusal.param, refusal.code)))

    def event(self, refusal: Refusal, request_id: bytes) -> bytes:
        return b"data: %b\n\n" % self.body(refusal, request_id)


class _ResponseError(msgspec.Struct, tag_field="type", tag="error"):
    code: str
    message: str
    param: str | None
    sequence_number: int = 0


class Responses(OpenAi):
    def event(self, refusal: Refusal, request_id: bytes) -> bytes:  # noqa: ARG002 - the event has no place for it
        error = _ResponseError(refusal.code, _told(refusal), refusal.param)
        return b"event: error\ndata: %b\n\n" % msgspec.json.encode(error)


class _AnthropicError(msgspec.Struct):
    type: str
    message: str


class _AnthropicBody(msgspec.Struct, tag_field="type", tag="error"):
    error: _AnthropicError
    request_id: str


class Anthropic:
    """Anthropic's types stand for statuses; our code is in the header x-redoubt-reason."""

    def body(self, refusal: Refusal, request_id: bytes) -> bytes:
        error = _AnthropicError(_ANTHROPIC_TYPES.get(refusal.status, "api_error"), _told(refusal))
        return msgspec.json.encode(_AnthropicBody(error, request_id.decode()))

    def event(self, refusal: Refusal, request_id: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % self.body(refusal, request_id)


_ANTHROPIC_TYPES = {
    **dict.fromkeys((400, 405, 408, 417, 422, 431), "invalid_request_error"),
    401: "authentication_error",
    **dict.fromkeys((403, 451), "permission_error"),
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
OPENAI, RESPONSES, ANTHROPIC = OpenAi(), Responses(), Anthropic()


def _told(refusal: Refusal) -> str:
    return f"{refusal.detail}; {refusal.remedy}"
