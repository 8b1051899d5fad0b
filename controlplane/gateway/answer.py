"""The bytes of our answers. Every header is ours: nothing of a replica's head reaches a client."""

from controlplane.gateway.error_shapes import OPENAI, ErrorShape
from controlplane.gateway.errors import Refusal, reason_phrase
from controlplane.gateway.surface.surface import Ask, is_bounded

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON = b"application/json"
_CLOSE = b"connection: close\r\n"


def completion(endpoint_headers: bytes, request_id: bytes, body: bytes, *, keep_alive: bool) -> bytes:
    """Return a whole chat completion."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n%b"
        % (endpoint_headers, request_id, len(body), b"" if keep_alive else _CLOSE, body)
    )


def stream_head(endpoint_headers: bytes, request_id: bytes, *, keep_alive: bool, chunked: bool) -> bytes:
    """Return the head of a streamed completion."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
        b"%bx-request-id: %b\r\n%b%b\r\n"
        % (
            endpoint_headers,
            request_id,
            b"transfer-encoding: chunked\r\n" if chunked else b"",
            b"" if keep_alive else _CLOSE,
        )
    )


def limits(ask: Ask, most_tokens: int) -> bytes:
    """Return the header line that says how long each completion may be, where the gateway set that."""
    return b"x-redoubt-max-tokens: %d\r\n" % most_tokens if is_bounded(ask, most_tokens) else b""


def small(
    status: int, request_id: bytes, body: bytes, *, keep_alive: bool, head_only: bool, extra: bytes = b""
) -> bytes:
    """Return a JSON answer that fits in one write; `head_only` answers HEAD."""
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nx-request-id: %b\r\n%bcontent-length: %d\r\n%b\r\n%b"
        % (
            status,
            reason_phrase(status).encode(),
            request_id,
            extra,
            len(body),
            b"" if keep_alive else _CLOSE,
            b"" if head_only else body,
        )
    )


def attachment(request_id: bytes, size: int, *, keep_alive: bool) -> bytes:
    """Return the head of a file of `size` bytes; no browser takes it for a page."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-disposition: attachment\r\n"
        b"x-content-type-options: nosniff\r\nx-request-id: %b\r\ncontent-length: %d\r\n%b\r\n"
        % (request_id, size, b"" if keep_alive else _CLOSE)
    )


def no_content(request_id: bytes, extra: bytes, *, keep_alive: bool) -> bytes:
    """Return an answer without a body."""
    closing = b"" if keep_alive else _CLOSE
    return b"HTTP/1.1 204 No Content\r\nx-request-id: %b\r\n%b%b\r\n" % (request_id, extra, closing)


def refused(
    refusal: Refusal,
    request_id: bytes,
    *,
    keep_alive: bool,
    head_only: bool = False,
    headers: bytes = b"",
    shape: ErrorShape = OPENAI,
) -> bytes:
    """Return a refusal in the shape of its dialect; `headers` are whole lines."""
    extra = b"x-redoubt-reason: %b\r\n%b" % (refusal.code.encode(), headers)
    if refusal.retry_after_s:
        extra += b"retry-after: %d\r\n" % refusal.retry_after_s
    if refusal.status == 401:
        extra += b"www-authenticate: Bearer\r\n"
    body = shape.body(refusal, request_id)
    return small(refusal.status, request_id, body, keep_alive=keep_alive, head_only=head_only, extra=extra)
