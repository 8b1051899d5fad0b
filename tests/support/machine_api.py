"""A stand-in for the machine API: real TLS, real client certificates; what it answers is the test's choice."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLSocket
from typing import Any

from controlplane.kit.tls import CertificateFiles, server_context


@dataclass(frozen=True)
class Received:
    path: str
    body: bytes
    uris: list[str]


@dataclass
class MachineApi:
    """What came in, and the status that the next answers have."""

    port: int
    received: list[Received] = field(default_factory=list)
    status: int = 204

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


@contextmanager
def machine_api(files: CertificateFiles, port: int = 0) -> Iterator[MachineApi]:
    """Serve on loopback until the block ends; only children of the site CA get in."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.socket = server_context(files, client_certificate=True).wrap_socket(server.socket, server_side=True)
    server.api = MachineApi(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    api: MachineApi

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_POST(self) -> None:
        assert isinstance(self.connection, SSLSocket)
        certificate = self.connection.getpeercert() or {}
        body = self.rfile.read(int(self.headers["content-length"]))
        names: Any = certificate.get("subjectAltName", ())  # ssl gives one type for every field of a certificate
        uris = [value for kind, value in names if kind == "URI"]
        self.server.api.received.append(Received(self.path, body, uris))
        self.send_response(self.server.api.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Tests read `received`."""
