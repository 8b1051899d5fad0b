"""A multipart upload, read as it arrives: small fields are kept, the file is handed on in parts."""

import re
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_PARTS = 16
_UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NAME = 255
_REMEDY = "send multipart/form-data with the fields purpose and file, as OpenAI's clients do"


class Form:
    """`fields` by name; `filename` is "" until the file has begun."""

    def __init__(self, content_type: bytes, limits: BatchLimits) -> None:
        """Raises BadRequest when this is no multipart form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("the body is no multipart form", remedy=_REMEDY, param="file")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_header_name,
            "on_header_value": self._add_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise BadRequest(str(error), remedy=_REMEDY, param="file") from None
        self._limits = limits
        self._parts = 0
        self._outside = 0  # bytes that are not the file's
        self._header = (b"", b"")
        self._disposition = b""
        self._name = ""
        self._content: list[bytes] = []
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.is_whole = False

    def feed(self, data: bytes) -> bytes:
        """Return what of the file is in these bytes. Raises BadRequest."""
        self._outside += len(data)
        try:
            self._parser.write(data)
        except FormParserError:
            raise BadRequest("the multipart form cannot be read", remedy=_REMEDY, param="file") from None
        if self._outside > self._limits.form_bytes:
            raise BadRequest("the form is too large beside its file", remedy=_REMEDY)
        content, self._content = b"".join(self._content), []
        return content

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise BadRequest("the form has too many parts", remedy=_REMEDY)
        self._header, self._disposition = (b"", b""), b""

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], self._header[1])

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = (b"", b"")

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name in self.fields or (self._name == "file" and self.filename):
            raise BadRequest("a field of the form came twice", remedy=_REMEDY, param=self._name[:100])
        if self._name == "file":
            self.filename = spoken_name(options.get(b"filename", b""))
        else:
            self.fields[self._name] = ""

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = data[start:end]
        if self._name == "file":
            self._outside -= len(part)
            self._content.append(part)
            return
        so_far = self.fields[self._name] + part.decode(errors="replace")
        if len(so_far) > self._limits.field_bytes:
            raise BadRequest("a field of the form is too long", remedy=_REMEDY, param=self._name[:100])
        self.fields[self._name] = so_far

    def _end(self) -> None:
        self.is_whole = True


def spoken_name(raw: bytes) -> str:
    """Return what a client calls its file, fit to be shown: no path, no control or direction characters."""
    name = raw.decode(errors="replace").replace("\\", "/").rpartition("/")[2]
    return _UNSPEAKABLE.sub("", name)[:_LONGEST_NAME].strip() or "upload"
