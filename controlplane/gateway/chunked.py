"""The chunked coding of RFC 9112, section 7.1, without extensions and trailers: nobody we talk to needs them."""

from functools import lru_cache

from controlplane.kit.errors import BadInput

LAST = b"0\r\n\r\n"
_MOST_SIZE_DIGITS = 8
_HEX = frozenset(b"0123456789abcdefABCDEF")


class BadChunk(BadInput):
    def __init__(self) -> None:
        super().__init__(
            "the chunked body cannot be read", remedy="send hexadecimal sizes and no extensions or trailers"
        )


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class ChunkedReader:
    """Takes a chunked body in pieces as they arrive; `rest` is what follows the body once `done`."""

    __slots__ = ("_buffer", "_left", "done", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0  # bytes of the open chunk still to come, its CRLF included
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return the payload in `data`. Raises BadChunk."""
        if self._left == 0 and not self._buffer:
            line_end = data.find(b"\r\n", 0, _MOST_SIZE_DIGITS + 2)
            size = _size(data[:line_end]) if line_end > 0 else 0
            if size and len(data) == line_end + size + 4 and data.endswith(b"\r\n"):
                return data[line_end + 2 : -2]  # one whole chunk, as engines send them
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        payloads: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            at = self._open_chunk(data, at, payloads) if self._left == 0 else self._continue_chunk(data, at, payloads)
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _open_chunk(self, data: bytes, at: int, payloads: list[bytes]) -> int:
        line_end = data.find(b"\r\n", at, at + _MOST_SIZE_DIGITS + 2)
        if line_end < 0:
            return self._wait_for_size(data, at)
        size = _size(data[at:line_end])
        if size == 0:
            return self._close(data, at, line_end + 2)
        self._left = size + 2
        return self._continue_chunk(data, line_end + 2, payloads)

    def _continue_chunk(self, data: bytes, at: int, payloads: list[bytes]) -> int:
        end = at + self._left
        if end > len(data):
            return self._part_of_chunk(data, at, payloads)
        if data[max(at, end - 2) : end] != b"\r\n"[-min(2, self._left) :]:
            raise BadChunk
        if end - 2 > at:
            payloads.append(data[at : end - 2])
        self._left = 0
        return end

    def _part_of_chunk(self, data: bytes, at: int, payloads: list[bytes]) -> int:
        here = len(data) - at
        payload = data[at : at + max(0, self._left - 2)]
        if len(payload) < here and data[-1:] != b"\r":
            raise BadChunk
        if payload:
            payloads.append(payload)
        self._left -= here
        return len(data)

    def _close(self, data: bytes, at: int, trailer_at: int) -> int:
        ending = data[trailer_at : trailer_at + 2]
        if len(ending) < 2 and b"\r\n".startswith(ending):
            self._buffer = data[at:]
            return len(data)
        if ending != b"\r\n":
            raise BadChunk
        self.done = True
        self.rest = data[trailer_at + 2 :]
        return len(data)

    def _wait_for_size(self, data: bytes, at: int) -> int:
        digits = data[at:].removesuffix(b"\r")
        if len(digits) > _MOST_SIZE_DIGITS or not _HEX.issuperset(digits):
            raise BadChunk
        self._buffer = data[at:]
        return len(data)


@lru_cache(maxsize=1024)
def _size(line: bytes) -> int:
    if not line or not _HEX.issuperset(line):
        raise BadChunk
    return int(line, 16)
