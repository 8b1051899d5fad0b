"""The lines of a batch: what goes in is read and checked, what comes out is written, both in OpenAI's shapes."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.batch.records import Fault
from controlplane.kit.errors import BadInput

_BOM = b"\xef\xbb\xbf"


class LineTooLong(BadInput):
    """A line that is no request; nothing behind it is looked for."""


class Line(msgspec.Struct, frozen=True):
    """One request of a batch. `method` and `url` are those of the whole batch."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    stream: bool | None = None


_LINE = msgspec.json.Decoder(Line)
_BODY = msgspec.json.Decoder(_Body)


def split_lines(parts: Iterable[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """Yield the whole lines that end in each part, the last one without its end too. Raises LineTooLong."""
    left = b""
    for part in parts:
        *whole, left = (left + part).split(b"\n")
        if any(len(line) > most_bytes for line in (*whole, left)):
            raise LineTooLong(f"a line is over {most_bytes} bytes", remedy="send shorter requests")
        yield whole
    yield [left] if left.strip() else []


def numbered(groups: Iterable[list[bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Number the lines from 1, and leave out the empty ones."""
    number = 0
    for group in groups:
        found = []
        for line in group:
            number += 1
            text = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
            if text:
                found.append((number, text))
        yield found


def read_line(raw: bytes) -> Line:
    """Read a line that was checked. Raises ValueError (msgspec's errors are of its kind)."""
    return _LINE.decode(raw)


class LineCheck:
    """Looks at all lines of a batch before one is sent; `faults` are the first that it found."""

    def __init__(self, endpoint: str, limits: BatchLimits) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._names: set[int] = set()
        self.model = ""
        self.total = 0
        self.faults: list[Fault] = []

    def look(self, lines: list[tuple[int, bytes]]) -> bool:
        """Look at some more lines; return whether it is worth while to go on."""
        for number, raw in lines:
            self.total += 1
            fault = self._fault(raw)
            if fault is not None:
                self.faults.append(Fault(fault[0], fault[1], number, fault[2]))
        if self.total > self._limits.lines:
            self.faults = [Fault("too_many_lines", f"a batch has at most {self._limits.lines} lines")]
            return False
        return len(self.faults) < self._limits.errors_shown

    def _fault(self, raw: bytes) -> tuple[str, str, str | None] | None:
        try:
            raw.decode()
            line = _LINE.decode(raw)
            body = _BODY.decode(line.body)
        except (ValueError, RecursionError) as error:
            return "invalid_json_line", str(error)[:200] or "the line is nested too deep", None
        if line.method != "POST":
            return "invalid_method", "method is not POST", "method"
        if line.url != self._endpoint:
            return "invalid_url", f"url is not {self._endpoint}, the batch's endpoint", "url"
        if body.stream:
            return "invalid_request", "a batch streams nothing", "body.stream"
        if body.model != (self.model or body.model):
            return "mismatched_model", f"the model is not {self.model}, that of the first line", "body.model"
        self.model = body.model
        return self._again(line.custom_id)

    def _again(self, custom_id: str) -> tuple[str, str, str | None] | None:
        name = hash(custom_id)  # of 64 bits, with a secret of this process: no two are made to meet
        if name in self._names:
            return "duplicate_custom_id", "the custom_id came before", "custom_id"
        self._names.add(name)
        return None


class _Response(msgspec.Struct):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str
    message: str


class _Result(msgspec.Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


def answered_line(line_id: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """Return a line of results without its end. Raises ValueError when the body is no JSON."""
    if b"\n" in body or b"\r" in body:  # between tokens alone, in JSON
        body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    body.decode()
    msgspec.json.decode(body)
    return msgspec.json.encode(_Result(line_id, custom_id, _Response(status, request_id, msgspec.Raw(body)), None))


def failed_line(line_id: str, custom_id: str, fault: Fault) -> bytes:
    """Return a line for what was never answered."""
    return msgspec.json.encode(_Result(line_id, custom_id, None, _Error(fault.code, fault.message)))
