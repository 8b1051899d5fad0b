"""The two calls that a runner makes, over real TLS, with an api that can be away, slow or unwilling."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from controlplane.kit.tls import CertificateFiles, server_context

TOKEN = "run-token"


@dataclass
class StandInApi:
    """`answer` is the status of the next answers, 0 hangs up without one; `said` holds every renewal."""

    url: str = ""
    answer: int = 200
    slow_s: float = 0.0
    keep: bool = True
    drain: bool = False
    registered: list[dict] = field(default_factory=list)
    said: list[dict] = field(default_factory=list)

    def phases(self) -> list[str]:
        """Return the phases in order, without repeats."""
        phases = [word["phase"] for word in self.said]
        return [now for before, now in zip(["", *phases], phases, strict=False) if now != before]


@contextmanager
def stand_in_api(files: CertificateFiles, api: StandInApi, port: int = 0) -> Iterator[StandInApi]:
    """Serve on loopback until the block ends."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.socket = server_context(files, client_certificate=False).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.api = api
    api.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    api: StandInApi
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_POST(self) -> None:
        api = self.server.api
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(api.slow_s)
        if api.answer == 0:
            return
        if self.path == "/api/v1/runs":
            api.registered.append(body)
            self._reply({"run_token": TOKEN})
        elif self.headers["authorization"] == f"Bearer {TOKEN}":
            api.said.append(body)
            self._reply({"keep": api.keep, "drain": api.drain})

    def _reply(self, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(self.server.api.answer)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests read `registered` and `said`."""
