"""Everybody who is measured, each in front of the same engine; what waits for its turn costs nothing."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import SignedSnapshot, SnapshotReplica
from controlplane.kit.crypto import public_pem, self_signed, sign
from controlplane.kit.tls import client_context
from tests.bench import peers
from tests.bench.load import Target
from tests.bench.measured_site import KEY, settings, snapshot
from tests.bench.mock_engine import PLACES
from tests.bench.nginx import nginx_settings
from tests.bench.processes import GATEWAY_CORE, LOAD_CORE, Stage, free_port, measured_python, wait_for
from tests.support.certificates import issue, make_site_ca
from tests.support.source import ROOT

Places = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Contender:
    target: Target
    pid: int | None  # None: the direct call, which has no process between
    is_slow: bool = False


class Bench:
    """Starts the engine, a stand-in for the control plane, and every contender that can be had."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stage = Stage(folder, stack)
        self._files = issue(make_site_ca(folder), "gateway")
        self._engine = self_signed("replica_bench")
        self._engine_port, self._engine_tls_port, self._control_plane = free_port(), free_port(), free_port()
        (folder / "engine.pem").write_bytes(self._engine.key_pem + self._engine.certificate_pem)

    @property
    def log(self) -> Path:
        return self._stage.log

    def start(self, only: frozenset[str]) -> list[Contender]:
        """Start who is asked for, all when `only` is empty."""
        ports = (str(self._engine_port), str(self._engine_tls_port))
        engine_files = (str(self._folder / "engine.pem"), str(self._files.ca))
        self._stage.python(LOAD_CORE, "tests.bench.mock_engine", *ports, *engine_files)
        self._stage.python(LOAD_CORE, "tests.bench.mock_control_plane", str(self._control_plane))
        wait_for(self._engine_tls_port)
        wait_for(self._control_plane)
        makers: dict[str, Callable[[], Contender | None]] = {
            "direct": lambda: Contender(Target("direct", self._engine_port, KEY), None),
            "redoubt": lambda: self._gateway("redoubt"),
            "nginx": lambda: self._nginx("nginx"),
            **{name: partial(self._router, name) for name in peers.NAMES},
            "no spool": lambda: self._gateway("no spool", spool=False),
            "redoubt, TLS": lambda: self._gateway("redoubt, TLS", tls=True),
            "nginx, TLS": lambda: self._nginx("nginx, TLS", tls=True),
        }
        wanted = [make for name, make in makers.items() if not only or name in only]
        return [contender for make in wanted if (contender := make()) is not None]

    def start_real(self) -> list[Contender]:
        """Start two llama.cpp servers, and a gateway in front of both."""
        script = str(ROOT / "images/practice/tiny_model.py")
        subprocess.run([sys.executable, script, str(self._folder)], check=True, capture_output=True)
        [model] = self._folder.glob("*.gguf")
        ports = (free_port(), free_port())
        for port in ports:
            self._stage.python(LOAD_CORE, "tests.bench.real_engine", str(model), str(port))
        for port in ports:
            wait_for(port)
        gateway = self._gateway("redoubt", engines=tuple(("127.0.0.1", port) for port in ports), adapter="llama_cpp")
        return [Contender(Target("direct", ports[0], KEY), None), gateway]

    def _target(self, name: str, port: int, *, tls: bool = False, key: str = KEY) -> Target:
        return Target(name, port, key, client_context(self._files.ca) if tls else None)

    def _gateway(
        self, name: str, *, tls: bool = False, spool: bool = True, engines: Places = (), adapter: str = "vllm"
    ) -> Contender:
        """Start a gateway; with `tls` both its sides are encrypted, as on a site."""
        port = free_port()
        folder = self._folder / f"gateway-{port}"
        places = engines or (
            [("127.0.0.1", self._engine_tls_port)] if tls else [(host, self._engine_port) for host in PLACES]
        )
        (folder / "state").mkdir(parents=True)
        signer = Ed25519PrivateKey.generate()
        (folder / "snapshot.pub").write_bytes(public_pem(signer))
        (folder / "state/snapshot.json").write_text(self._snapshot(signer, places, adapter))
        (folder / "gateway.toml").write_text(
            settings(folder, self._files, port, self._control_plane, free_port(), tls=tls)
        )
        words = ("tls" if tls else "plain", "spool" if spool else "no-spool")
        pid = self._stage.python(
            GATEWAY_CORE,
            "tests.bench.gateway_under_test",
            str(folder / "gateway.toml"),
            *words,
            program=measured_python(),
        )
        wait_for(port)
        return Contender(self._target(name, port, tls=tls), pid)

    def _snapshot(self, signer: Ed25519PrivateKey, places: Places, adapter: str) -> str:
        names = ("replica_bench",) if len(places) == 1 else ("replica_bench", "replica_second")
        replicas = tuple(
            SnapshotReplica(
                replica_id=name,
                host=host,
                port=port,
                certificate_pem=self._engine.certificate_pem.decode(),
            )
            for name, (host, port) in zip(names, places, strict=True)
        )
        payload = snapshot(replicas, adapter).model_dump_json()
        return SignedSnapshot(payload=payload, signature=sign(signer, payload.encode())).model_dump_json()

    def _nginx(self, name: str, *, tls: bool = False) -> Contender | None:
        program = peers.find_nginx()
        if program is None:
            return None
        folder, port = self._folder / f"nginx-{tls}", free_port()
        folder.mkdir()
        engine = self._engine_tls_port if tls else self._engine_port
        (folder / "nginx.conf").write_text(nginx_settings(folder, self._files, port, engine, tls=tls))
        pid = self._stage.program(GATEWAY_CORE, program, "-p", str(folder), "-c", str(folder / "nginx.conf"))
        wait_for(port)
        return Contender(self._target(name, port, tls=tls), pid)

    def _router(self, name: str) -> Contender | None:
        port = free_port()
        peer = peers.find_router(name, self._folder, port, (self._engine_port,))
        if peer is None:
            return None
        pid = self._stage.program(GATEWAY_CORE, *peer.command, environment=peer.environment)
        wait_for(port)
        return Contender(self._target(name, port, key=peer.key), pid, is_slow=peer.is_slow)
