"""What an inference server says is wrong with a request, in the words of the gateway."""

import msgspec

from controlplane.gateway.errors import BadRequest, BodyTooLarge, NotServed, Refusal, Unprocessable

_CLIENT_AT_FAULT: dict[int, type[Refusal]] = {
    400: BadRequest,
    413: BodyTooLarge,
    422: Unprocessable,
    **dict.fromkeys((404, 405, 501), NotServed),  # an engine without this route
}

_TOO_LONG = "too large to process"  # llama.cpp's 500 for a text that is too long to embed


class _EngineError(msgspec.Struct):
    message: str


class _EngineErrorBody(msgspec.Struct):
    error: _EngineError


def of_client(status: int, body: bytes) -> Refusal | None:
    """Return the refusal of a request that the engine finds wrong; None when the fault is the engine's."""
    kind, message = _CLIENT_AT_FAULT.get(status), _message(body)
    if kind is None and _TOO_LONG in message:
        kind = BadRequest
    return kind(message, remedy="change the request", code=kind.kind) if kind is not None else None


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_EngineErrorBody).error.message[:500]
    except ValueError:
        return "the replica refused the request"
