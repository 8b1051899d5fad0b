"""Who is at the other end of a mutual-TLS connection: the certificate says it, nobody else may."""

import re
from asyncio import BaseTransport
from dataclasses import dataclass
from ssl import SSLObject
from typing import Any  # uvicorn's scope has no narrower type

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controlplane.kit.tls import uri_names

URI = re.compile(r"redoubt://(?P<site>[^/]+)/zone/(?P<zone>[^/]+)/(?P<kind>node|service)/(?P<name>[^/]+)")


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
    """uvicorn's HTTP protocol, telling the application which certificate the client showed."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows the argument
        tls = transport.get_extra_info("ssl_object")
        certificate: dict[str, Any] = (tls.getpeercert() or {}) if isinstance(tls, SSLObject) else {}
        self._peer = parse_peer(uri_names(certificate))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope.setdefault("extensions", {})["redoubt.peer"] = {"peer": self._peer}
