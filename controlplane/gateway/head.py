"""The head of a client's request: proved well-formed in C, then read for the six fields we act on."""

import re
from dataclasses import dataclass

import httptools

from controlplane.gateway.errors import BadRequest, ExpectationFailed

END = b"\r\n\r\n"
_ACTED_ON = re.compile(
    rb"\n(?=[acehtACEHT])(authorization|connection|content-length|expect|host|transfer-encoding):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
_CHUNKED = b"chunked"


@dataclass(slots=True)
class Head:
    """`length` is 0 without a body; `authorization` is empty when none was sent."""

    method: bytes
    path: bytes
    keep_alive: bool
    chunked_answers: bool  # HTTP/1.1; an HTTP/1.0 client reads until the end of the connection
    authorization: bytes
    length: int
    chunked: bool
    expects_continue: bool

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


class _NoCallbacks:
    """llhttp only judges here: a Python call for every header would cost more than all other parsing."""


_NO_CALLBACKS = _NoCallbacks()


def read_head(raw: bytes) -> Head:
    """Read one head, from the request line to the empty line. Raises BadRequest."""
    _prove(raw)
    method, target, version = _request_line(raw)
    fields = _acted_on(raw)
    is_1_1 = version == b"HTTP/1.1"
    if is_1_1 and b"host" not in fields:
        raise _bad("the Host header is missing")
    transfer = fields.get(b"transfer-encoding")
    if transfer is not None and (not is_1_1 or transfer.lower() != _CHUNKED):
        raise _bad("Transfer-Encoding is not chunked")
    if transfer is not None and b"content-length" in fields:
        raise _bad("Transfer-Encoding and Content-Length came together")
    return Head(
        method=method,
        path=target.partition(b"?")[0],
        keep_alive=is_1_1 and b"close" not in fields.get(b"connection", b"").lower(),
        chunked_answers=is_1_1,
        authorization=fields.get(b"authorization", b""),
        length=int(fields.get(b"content-length", b"0")),
        chunked=transfer is not None,
        expects_continue=_expects_continue(fields.get(b"expect")),
    )


def _prove(raw: bytes) -> None:
    """Let llhttp refuse what smuggling needs: bare LF, folded lines, double or odd lengths, spaces before a colon."""
    try:
        httptools.HttpRequestParser(_NO_CALLBACKS).feed_data(raw)
    except httptools.HttpParserUpgrade:
        return  # an upgrade may be ignored (RFC 9110, 7.8)
    except httptools.HttpParserError as error:
        raise _bad(str(error) or "the request head cannot be read") from None


def _request_line(raw: bytes) -> tuple[bytes, bytes, bytes]:
    parts = raw[: raw.index(b"\r")].split(b" ")
    if len(parts) != 3 or parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise _bad("the request line is not METHOD PATH HTTP/1.1")
    return parts[0], parts[1], parts[2]


def _acted_on(raw: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in _ACTED_ON.findall(raw):
        lower = name.lower()
        if lower in fields and lower != b"connection":
            raise _bad(f"the header {lower.decode()} came twice")
        fields[lower] = value.rstrip()
    return fields


def _expects_continue(expect: bytes | None) -> bool:
    if expect is not None and expect.lower() != b"100-continue":
        raise ExpectationFailed("only Expect: 100-continue is understood", remedy="send no other expectation")
    return expect is not None


def _bad(detail: str) -> BadRequest:
    return BadRequest(detail, remedy="send one well-formed HTTP/1.1 request")
