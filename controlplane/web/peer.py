"""Who is at the other end of a mutual-TLS connection: the certificate says it, nobody else may."""

import re
from asyncio import BaseTransport
from dataclasses import dataclass
from ssl import SSLObject
from typing import Any, ClassVar  # uvicorn's scope has no narrower type

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controlplane.kit.tls import uri_names

URI = re.compile(r"redoubt://(?P<site>[^/]+)/zone/(?P<zone>[^/]+)/(?P<kind>node|service)/(?P<name>[^/]+)")

MOST_HEADERS = 80
MOST_HEAD_BYTES = 24 << 10


@dataclass(frozen=True)
class Peer:
    site: str
    zone: str
    kind: str
    name: str


def parse_peer(names: list[str]) -> Peer | None:
    """Return the one identity among a certificate's URI names; none or several are nobody."""
    found = [match for name in names if (match := URI.fullmatch(name))]
    return Peer(**found[0].groupdict()) if len(found) == 1 else None


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that tells the application which certificate the client showed, and is not kept waiting.

    uvicorn bounds neither the head nor the time that it takes: here a head has a size, a number of headers and seconds,
    and so has a body that still comes when its answer has left.
    """

    head_s: ClassVar[float] = 10.0
    rest_s: ClassVar[float] = 10.0

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows the argument
        tls = transport.get_extra_info("ssl_object")
        certificate: dict[str, Any] = (tls.getpeercert() or {}) if isinstance(tls, SSLObject) else {}
        self._peer = parse_peer(uri_names(certificate))
        self._patience = self.loop.call_later(self.head_s, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait(self.head_s)
        self._head_bytes = 0
        self.scope.setdefault("extensions", {})["redoubt.peer"] = {"peer": self._peer}

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > MOST_HEADERS:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self._patience.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._wait(self.rest_s)

    def on_message_complete(self) -> None:
        self._patience.cancel()
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES:
            raise HeadTooLarge

    def _wait(self, seconds: float) -> None:
        self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()


class HeadTooLarge(HttpParserError):
    """Raised into the parser, which answers 400 and ends the connection."""
