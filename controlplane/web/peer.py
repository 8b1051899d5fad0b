"""Who is at the other end of a mutual-TLS connection: the certificate says it, nobody else may."""

import re
from asyncio import BaseTransport
from dataclasses import dataclass
from ssl import SSLObject
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controlplane.domains.pki.rules import belongs_to
from controlplane.domains.pki.types import Kind, PresentLeaf
from controlplane.kit.certificates import NotTrusted, uri_of
from controlplane.kit.issuing import key_fingerprint, serial_of

URI = re.compile(r"redoubt://(?P<site>[^/]+)/zone/(?P<zone>[^/]+)/(?P<kind>node|service)/(?P<name>[^/]+)")

MOST_HEADERS = 80
MOST_HEAD_BYTES = 24 << 10


@dataclass(frozen=True)
class Peer:
    """Who shows a certificate of the site CA, and the certificate. Whether it counts now is asked at every request."""

    site: str
    zone: str
    kind: str
    name: str
    leaf: PresentLeaf

    @property
    def uri(self) -> str:
        """The URI name of the certificate, as the site CA wrote it."""
        return f"redoubt://{self.site}/zone/{self.zone}/{self.kind}/{self.name}"


def read_peer(der: bytes | None) -> Peer | None:
    """Return the one identity of a certificate that TLS has verified; none or several are nobody."""
    if der is None:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        found, key = URI.fullmatch(uri_of(certificate)), certificate.public_key()
    except (NotTrusted, ValueError):
        return None
    if found is None or not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    dns = tuple(names.get_values_for_type(x509.DNSName))
    kind = Kind(found["kind"])
    leaf = PresentLeaf(
        site=found["site"], zone=found["zone"], kind=kind, name=found["name"],
        node=belongs_to(kind, found["name"], dns), dns=dns,
        ip=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
        serial=serial_of(certificate), fingerprint=key_fingerprint(key),
        not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc,
    )  # fmt: skip
    return Peer(leaf.site, leaf.zone, leaf.kind, leaf.name, leaf)


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
        self._peer = read_peer(tls.getpeercert(binary_form=True)) if isinstance(tls, SSLObject) else None
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
