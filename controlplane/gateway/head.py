"""The head of a client's request: proved well-formed in C, then read for the few fields we act on."""

import re
from functools import lru_cache
from typing import cast, get_args

import httptools
import msgspec

from controlplane.contracts.snapshot import Priority
from controlplane.gateway.errors import BadRequest, ExpectationFailed
from controlplane.gateway.request import NO_WORK, Work

END = b"\r\n\r\n"
_ACTED_ON = re.compile(
    rb"\n(?=[acehtxACEHTX])(api-key|authorization|connection|content-length|expect|host|transfer-encoding|x-api-key"
    rb"|x-redoubt-(?:agent|classification|deadline|priority|purpose|run|step|workflow)):[ \t]*([^\r]*)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,79}")
_SECONDS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,3})?")
LONGEST_DEADLINE_S = 86_400.0
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]+)(?=[ \t]*\r)", re.IGNORECASE)


_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")


class Head(msgspec.Struct, frozen=True, gc=False):
    """`length` is 0 without a body; `authorization`, `purpose` and `classification` are empty when none was sent."""

    method: bytes
    path: bytes
    keep_alive: bool
    chunked_answers: bool  # HTTP/1.1; an HTTP/1.0 client reads until the end of the connection
    authorization: bytes
    length: int
    chunked: bool
    expects_continue: bool
    purpose: bytes = b""
    classification: bytes = b""
    work: Work = NO_WORK

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


class _Judge:
    """No callbacks: a Python call for every header would cost more than all other parsing."""

    on_url = on_header = on_headers_complete = on_body = on_status = None
    on_message_begin = on_message_complete = on_chunk_header = on_chunk_complete = None


_JUDGE = _Judge()


class HeadReader:
    """Reads the heads of one connection. A client repeats itself: mostly the body's length alone is new."""

    __slots__ = ("_after", "_before", "_last")

    _last: Head

    def __init__(self) -> None:
        self._before = b""  # of the last head, all up to the digits of its length
        self._after = b""  # and all that followed them

    def read(self, raw: bytes) -> Head:
        """Read one head, from the request line to the empty line. Raises BadRequest."""
        before, after = self._before, self._after
        if before and raw.startswith(before) and raw.endswith(after):
            digits = raw[len(before) : -len(after)]
            if digits.isdigit() and len(digits) < 16:  # beyond, llhttp judges again
                return msgspec.structs.replace(self._last, length=int(digits))
        head = read_head(raw)
        length = _LENGTH.search(raw)
        if length is not None:
            self._before, self._after, self._last = raw[: length.start(1)], raw[length.end(1) :], head
        return head


def read_head(raw: bytes) -> Head:
    """Read one head, from the request line to the empty line. Raises BadRequest."""
    _prove(raw)
    method, target, rest = _request_line(raw)
    fields = _acted_on(raw)
    is_1_1 = rest.startswith(b"HTTP/1.1\r")
    if is_1_1 and b"host" not in fields:
        raise _bad("the Host header is missing")
    chunked = b"transfer-encoding" in fields
    if chunked:
        _check_transfer(fields, is_1_1=is_1_1)
    expects = b"expect" in fields
    if expects and fields[b"expect"].strip().lower() != b"100-continue":
        raise ExpectationFailed("only Expect: 100-continue is understood", remedy="send no other expectation")
    if sum(name in fields for name in _CREDENTIALS) > 1:
        raise BadRequest("two credentials came with the request", remedy="send one of them alone")
    path = target.partition(b"?")[0] if b"?" in target else target
    connection = fields.get(b"connection", b"keep-alive")
    return Head(
        method,
        path,
        is_1_1 and (connection == b"keep-alive" or b"close" not in connection.lower()),
        is_1_1,
        _credential(path, fields),
        int(fields.get(b"content-length", 0)),
        chunked,
        expects,
        fields.get(b"x-redoubt-purpose", b"").rstrip(),
        fields.get(b"x-redoubt-classification", b"").rstrip(),
        _work(fields),
    )


def _credential(path: bytes, fields: dict[bytes, bytes]) -> bytes:
    """Return the one credential as a bearer's; Anthropic's clients send theirs in x-api-key."""
    if b"x-api-key" in fields and path.startswith((b"/v1/messages", b"/v1/models")):
        return b"Bearer " + fields[b"x-api-key"].strip()
    return fields.get(b"authorization", b"")


def _work(fields: dict[bytes, bytes]) -> Work:
    """Return what the request is a part of. Raises BadRequest."""
    told = tuple(fields.get(b"x-redoubt-" + name, b"") for name in _WORK)
    return _read_work(told) if any(told) else NO_WORK


_WORK = (b"workflow", b"agent", b"run", b"step", b"deadline", b"priority")


@lru_cache(maxsize=1024)
def _read_work(told: tuple[bytes, ...]) -> Work:
    words = [word.decode("latin-1").strip() for word in told]
    for name, word in zip(_WORK[:4], words, strict=False):
        if word and not _NAME.fullmatch(word):
            raise _bad_work(name, "letters, digits and . _ : - alone, at most 80")
    workflow, agent, run, step, deadline, priority = words
    if deadline and not (_SECONDS.fullmatch(deadline) and 0 < float(deadline) <= LONGEST_DEADLINE_S):
        raise _bad_work(b"deadline", f"seconds, more than 0 and at most {LONGEST_DEADLINE_S:.0f}")
    if priority and priority not in get_args(Priority):
        raise _bad_work(b"priority", f"one of {', '.join(get_args(Priority))}")
    return Work(workflow, agent, run, step, float(deadline or 0), cast("Priority", priority or "interactive"))


def _bad_work(name: bytes, wanted: str) -> BadRequest:
    header = f"X-Redoubt-{name.decode().capitalize()}"
    return BadRequest(f"the header {header} cannot be read", remedy=f"send {wanted}", param=header, code="bad_header")


def _prove(raw: bytes) -> None:
    """Let llhttp refuse what smuggling needs: bare LF, folded lines, double or odd lengths, spaces before a colon."""
    try:
        httptools.HttpRequestParser(_JUDGE).feed_data(raw)
    except httptools.HttpParserUpgrade:
        return  # an upgrade may be ignored (RFC 9110, 7.8)
    except httptools.HttpParserError as error:
        raise _bad(str(error) or "the request head cannot be read") from None


def _request_line(raw: bytes) -> list[bytes]:
    """Return method, target, and all from the version on."""
    parts = raw.split(b" ", 2)
    if len(parts) != 3 or not parts[1] or not parts[2].startswith((b"HTTP/1.1\r", b"HTTP/1.0\r")):
        raise _bad("the request line is not METHOD PATH HTTP/1.1")
    return parts


def _acted_on(raw: bytes) -> dict[bytes, bytes]:
    found = _ACTED_ON.findall(raw)
    fields = {name.lower(): value for name, value in found}
    if len(fields) != len(found):
        names = [name.lower() for name, _ in found]
        twice = next((name for name in fields if name != b"connection" and names.count(name) > 1), None)
        if twice is not None:
            raise _bad(f"the header {twice.decode()} came twice")
        fields[b"connection"] = b",".join(value for name, value in found if name.lower() == b"connection")
    return fields


def _check_transfer(fields: dict[bytes, bytes], *, is_1_1: bool) -> None:
    if not is_1_1 or fields[b"transfer-encoding"].strip().lower() != b"chunked":
        raise _bad("Transfer-Encoding is not chunked")
    if b"content-length" in fields:
        raise _bad("Transfer-Encoding and Content-Length came together")


def _bad(detail: str) -> BadRequest:
    return BadRequest(detail, remedy="send one well-formed HTTP/1.1 request")
