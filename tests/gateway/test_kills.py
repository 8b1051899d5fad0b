"""kill -9 at any moment loses no request that was answered."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import SignedSnapshot, SnapshotReplica
from controlplane.contracts.spool import AnyLine, Intent, Outcome, ShipSpool
from controlplane.domains.metering import rules
from controlplane.domains.metering.types import Place
from controlplane.kit.crypto import public_pem, sign
from tests.gateway.stage import COMPLETION, KEY, key, post, snapshot
from tests.support.certificates import issue, make_site_ca

KILLS = 200
CALLERS = 4


@dataclass
class Taken:
    """What a control plane has of every spool, by its own rule; it forgets to answer now and then."""

    places: dict[str, Place] = field(default_factory=dict)
    lines: dict[str, list[AnyLine]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    forgets: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, body: bytes) -> bytes | None:
        shipped = ShipSpool.model_validate_json(body)
        with self.lock:
            place, fresh = rules.take(self.places.get(shipped.boot, Place()), shipped.first, shipped.lines)
            self.places[shipped.boot] = place
            self.lines.setdefault(shipped.boot, []).extend(fresh)
            forgotten = self.forgets and fresh and self.chance.random() < 0.1
            return None if forgotten else b'{"next_seq":%d}' % place.next_seq


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._answer(b"", 204)

    def do_POST(self) -> None:
        answer = self.server.taken.take(self.rfile.read(int(self.headers["content-length"])))
        if answer is None:
            self.close_connection = True
        else:
            self._answer(answer, 200)

    def _answer(self, body: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """What was taken is all that counts."""


class _Server(ThreadingHTTPServer):
    taken: Taken
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway that was killed is no news."""


@pytest.fixture
def control_plane() -> Iterator[_Server]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.taken = Taken()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Lives:
    """One life of the gateway after the other, on one port and one folder."""

    def __init__(self, folder: Path, control_plane: _Server, engine_port: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.state = folder / "state"
        self._log = (folder / "gateway.log").open("wb")
        self._parent = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.gateway_lives",
                str(self._settings(folder, control_plane, engine_port)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def begin(self) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        self._parent.kill()
        self._parent.communicate()
        self._log.close()

    def _settings(self, folder: Path, control_plane: _Server, engine_port: int) -> Path:
        signer, files = Ed25519PrivateKey.generate(), issue(make_site_ca(folder), "gateway")
        (folder / "snapshot.pub").write_bytes(public_pem(signer))
        self.state.mkdir()
        replica = SnapshotReplica(replica_id="replica_a", host="127.0.0.1", port=engine_port, certificate_pem="")
        payload = snapshot(1, (replica,), (key(KEY),), expires_in_s=3600).model_dump_json()
        signed = SignedSnapshot(payload=payload, signature=sign(signer, payload.encode()))
        (self.state / "snapshot.json").write_text(signed.model_dump_json())
        path = folder / "gateway.toml"
        path.write_text(f"""
site = "test"
snapshot_public_key = "{folder}/snapshot.pub"
state_dir = "{self.state}"
ship_s = 0.03
upstream_tls = {{certificate = "{files.certificate}", key = "{files.key}", ca = "{files.ca}"}}
control_plane = {{url = "http://127.0.0.1:{control_plane.server_port}"}}
[listen]
host = "127.0.0.1"
port = {self.port}
""")
        return path


async def answer_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Be an engine that needs no thought; it ends with the gateway's connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(COMPLETION), COMPLETION)
            )
    except (OSError, asyncio.IncompleteReadError):
        writer.transport.abort()


class Crowd:
    """Callers who ask without end and remember which of their requests were answered whole."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered: list[str] = []
        self.first_answer = asyncio.Event()
        self._callers = [asyncio.create_task(self._ask_for_ever()) for _ in range(CALLERS)]

    async def leave(self) -> None:
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    async def _ask_for_ever(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.003)
                continue
            try:
                while True:
                    writer.write(post())
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
                    if head.startswith(b"HTTP/1.1 200 "):
                        self.answered.append(head.partition(b"x-request-id: ")[2].partition(b"\r")[0].decode())
                        self.first_answer.set()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()


@pytest.mark.slow
async def test_200_kills_lose_no_answered_request_and_each_has_one_outcome(tmp_path: Path, control_plane: _Server):
    engine = await asyncio.start_server(answer_for_ever, "127.0.0.1", 0)
    lives = Lives(tmp_path, control_plane, engine.sockets[0].getsockname()[1])
    crowd, chance = Crowd(lives.port), random.Random(11)
    try:
        for _ in range(KILLS):
            crowd.first_answer.clear()
            pid = await asyncio.to_thread(lives.begin)
            async with asyncio.timeout(20):
                await crowd.first_answer.wait()
            await asyncio.sleep(chance.random() * 0.03)
            os.kill(pid, signal.SIGKILL)
        await crowd.leave()
        control_plane.taken.forgets = False
        pid = await asyncio.to_thread(lives.begin)
        await _until_all_is_shipped(lives, control_plane.taken)
    finally:
        os.kill(pid, signal.SIGKILL)
        await crowd.leave()
        lives.close()
        engine.close()
        await asyncio.sleep(0.1)  # the engine's connections hear of the last kill

    lines = [line for spool in control_plane.taken.lines.values() for line in spool]
    intents = Counter(line.request for line in lines if isinstance(line, Intent))
    outcomes = {line.request: line.result for line in lines if isinstance(line, Outcome)}
    assert len(crowd.answered) > KILLS
    assert set(crowd.answered) - set(intents) == set(), "answered and not on record"
    assert set(intents.values()) == {1}, "on record twice"
    assert sum(isinstance(line, Outcome) for line in lines) == len(outcomes), "two outcomes of one request"
    assert intents.keys() == outcomes.keys()
    assert {"answered", "unknown"} <= set(outcomes.values())


async def _until_all_is_shipped(lives: Lives, taken: Taken) -> None:
    def is_done() -> bool:
        dead = [folder.name for folder in (lives.state / "spool").iterdir()]
        closed = [boot for boot in dead if taken.lines.get(boot) and taken.lines[boot][-1].kind == "closed"]
        return len(closed) == len(dead) - 1  # the last life still writes

    async with asyncio.timeout(30):
        while not is_done():  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(0.1)
