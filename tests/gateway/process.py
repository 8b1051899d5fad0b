"""The gateway as a site runs it: a process, a settings file, and a control plane that can be away."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import SignedSnapshot, Snapshot, SnapshotReplica
from controlplane.kit.crypto import public_pem, sign
from controlplane.kit.tls import CertificateFiles, client_context, server_context
from tests.gateway.stage import KEY, ScriptedReplica, key, say_hi, snapshot

PATIENCE_S = 20.0
CONTENT_SECRET = "a secret of this node, of forty characters"


class StandInControlPlane:
    """Serves the snapshot that it was told last; over mutual TLS when it has a certificate."""

    def __init__(self, files: CertificateFiles | None = None) -> None:
        self.signer = Ed25519PrivateKey.generate()
        self.polls = 0
        self._signed: SignedSnapshot | None = None
        self._version = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stand_in = self
        if files is not None:
            context = server_context(files, client_certificate=True)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if files else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def publish(self, *replicas: SnapshotReplica) -> None:
        self._version += 1
        self.publish_snapshot(snapshot(self._version, replicas, (key(KEY),)))

    def publish_snapshot(self, new: Snapshot) -> None:
        payload = new.model_dump_json()
        self._version = new.version
        self._signed = SignedSnapshot(payload=payload, signature=sign(self.signer, payload.encode()))

    def newer_than(self, after: int) -> bytes | None:
        self.polls += 1
        if self._signed is None or self._version <= after:
            return None
        return self._signed.model_dump_json().encode()

    def go_away(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _table(files: CertificateFiles) -> str:
    return f'{{certificate = "{files.certificate}", key = "{files.key}", ca = "{files.ca}"}}'


class _Server(ThreadingHTTPServer):
    stand_in: StandInControlPlane
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        assert url.path == "/api/v1/gateway/snapshot"
        body = self.server.stand_in.newer_than(int(parse_qs(url.query)["after"][0]))
        self.send_response(204 if body is None else 200)
        self.send_header("content-length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Tests count `polls`."""


class GatewayProcess:
    """One gateway and what it says; `files` is its certificate and the site's CA."""

    def __init__(self, folder: Path, files: CertificateFiles, control_plane: StandInControlPlane) -> None:
        self.folder = folder
        self._files = files
        self.own_files = files  # what it shows to runs and to the control plane
        self._control_plane = control_plane
        self.content_secret: str | None = CONTENT_SECRET  # None: the file is not there
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.metrics_port = _free_port()

    def write_settings(self, *, workers: int = 1) -> Path:
        public_key = self.folder / "snapshot.pub"
        public_key.write_bytes(public_pem(self._control_plane.signer))
        tls, own = _table(self._files), _table(self.own_files)
        link_tls = f"tls = {own}" if self._control_plane.url.startswith("https") else ""
        self.content_key.unlink(missing_ok=True)
        if self.content_secret is not None:
            self.content_key.write_text(self.content_secret)
        path = self.folder / "gateway.toml"
        path.write_text(f"""
site = "test"
content_key = "{self.content_key}"
snapshot_public_key = "{public_key}"
state_dir = "{self.folder / "state"}"
workers = {workers}
poll_s = 0.05
metrics_port = {self.metrics_port}
upstream_tls = {own}

[listen]
host = "127.0.0.1"
port = {self.port}
tls = {tls}

[control_plane]
url = "{self._control_plane.url}"
{link_tls}
""")
        return path

    def start(self, *, workers: int = 1) -> "GatewayProcess":
        command = [
            sys.executable,
            "-m",
            "controlplane.main.gateway",
            "--config",
            str(self.write_settings(workers=workers)),
        ]
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        until(lambda: self.is_alive() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def content_key(self) -> Path:
        return self.folder / "content.key"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        context = client_context(self._files.ca)
        headers = {"authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, verify=context, headers=headers, trust_env=False, timeout=30)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def is_alive(self) -> bool:
        return self._answers("/livez")

    def is_ready(self) -> bool:
        return self._answers("/readyz")

    def workers(self) -> set[int]:
        return set(map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()))

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log().splitlines() if re.match(r"\{.*\}$", line)]
        return [line for line in lines if line["event"] == name]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self._process is None:
            return
        children = self.workers() if self._process.poll() is None else set()
        self._process.kill()
        self._process.wait()
        for pid in children:
            os.kill(pid, signal.SIGKILL)

    def _answers(self, path: str) -> bool:
        try:
            return self.get(path).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def gateway_process(
    folder: Path, files: CertificateFiles, control_plane: StandInControlPlane
) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(folder, files, control_plane)
    try:
        yield gateway
    finally:
        gateway.kill()


class ReplicaThread:
    """A scripted replica beside a test that blocks."""

    def __init__(self, ca: Path, script=say_hi) -> None:
        self.replica = ScriptedReplica("replica_a", script)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.replica.start(ca), self._loop).result(10)

    def call(self, function) -> None:
        self._loop.call_soon_threadsafe(function)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.replica.stop(), self._loop).result(10)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def until(holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Look until it holds."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError(f"did not come to hold within {within_s} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
