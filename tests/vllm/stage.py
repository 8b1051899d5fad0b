"""Two real vLLM servers on loopback, and the real gateway in front of them for two tenants."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import (
    SignedSnapshot,
    Snapshot,
    SnapshotBudget,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotReplica,
    SnapshotSecret,
    SnapshotShare,
)
from controlplane.domains.policy.rules.shipped import shipped_policies
from controlplane.kit.crypto import public_pem, sign
from tests.bench.measured_site import settings
from tests.bench.processes import GATEWAY_CORE, LOAD_CORE, Stage, end_tree, free_port, measured_python, wait_for
from tests.support.certificates import issue, make_site_ca
from tests.vllm.installation import program
from tests.vllm.weights import write_weights

KEYS = {"blue": "rdk_" + "b" * 43, "red": "rdk_" + "r" * 43}
CONTEXT_TOKENS = 1024
SHORT_TOKENS = 96  # what the gateway is told of one endpoint, so that an answer without a bound ends soon
# Of both replicas, of the first alone, and of the first with a bound: the names that clients send as `model`.
BOTH, ONE, SHORT = "chat", "one", "short"
_START_S = 900.0  # vLLM imports for a minute on an idle core, and several at `nice 19` on a busy one
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Engine:
    """One vLLM server."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def figure(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        lines = httpx.get(f"{self.url}/metrics", trust_env=False, timeout=30).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def serves(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False, timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def has_ended(self) -> bool:
        """Say whether its process is over; it stays in the table until the stack ends."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def kill(self) -> None:
        end_tree(self.pid)


@dataclass(frozen=True)
class Served:
    """The gateway's address, what stands behind it, and where it writes its records."""

    url: str
    pid: int
    engines: tuple[Engine, ...]
    state: Path
    model: Path

    def ask(self, path: str, body: dict[str, Any], tenant: str = "blue") -> httpx.Response:
        headers = {"authorization": f"Bearer {KEYS[tenant]}"}
        return httpx.post(f"{self.url}{path}", json=body, headers=headers, trust_env=False, timeout=120)

    def record(self, answer: httpx.Response, kind: str = "outcome") -> dict[str, Any]:
        """Return the durable record of a request: its `intent`, or its `outcome` with what it used."""
        wanted = (answer.headers["x-request-id"], kind)
        return wait_until(
            lambda: next((line for line in self._lines() if (line.get("request"), line.get("kind")) == wanted), None),
            10,
        )

    def _lines(self) -> list[dict[str, Any]]:
        files = [path.read_bytes() for path in (self.state / "spool").rglob("*") if path.is_file()]
        lines = [line for content in files for line in content.split(b"\n")]
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def wait_until(look: Any, within_s: float) -> Any:  # whatever is looked for
    """Return the first thing found that is true. Raises AssertionError when there is none in time."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, f"nothing came within {within_s} s"
        time.sleep(0.05)
    return found


def serve(folder: Path, stack: ExitStack) -> Served:
    """Start everything; all of it ends with the stack. What it says is in `folder/processes.log`."""
    stage = Stage(folder, stack)
    model = write_weights(folder / "model")
    engines = tuple(_engine(stage, model) for _ in range(2))
    for engine in engines:
        wait_until(lambda one=engine: one.serves() or one.has_ended(), _START_S)
        assert not engine.has_ended(), "vLLM ended while it started"
    port, pid = _gateway(stage, folder, engines)
    return Served(f"http://127.0.0.1:{port}", pid, engines, folder / "state", model)


def _engine(stage: Stage, model: Path) -> Engine:
    port = free_port()
    command = (
        *(program(), "serve", str(model), "--served-model-name", BOTH, ONE, SHORT),
        *("--host", "127.0.0.1", "--port", str(port), "--enforce-eager", "--dtype", "float32"),
        *("--max-model-len", str(CONTEXT_TOKENS), "--max-num-seqs", "16", "--enable-prompt-tokens-details"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    )
    return Engine(port, stage.program(LOAD_CORE, *command, environment=_ENVIRONMENT))


def _gateway(stage: Stage, folder: Path, engines: tuple[Engine, ...]) -> tuple[int, int]:
    control_plane, port = free_port(), free_port()
    files, signer = issue(make_site_ca(folder), "gateway"), Ed25519PrivateKey.generate()
    stage.python(LOAD_CORE, "tests.bench.mock_control_plane", str(control_plane))
    wait_for(control_plane)
    state = folder / "state"
    state.mkdir()
    (folder / "snapshot.pub").write_bytes(public_pem(signer))
    payload = _snapshot(engines).model_dump_json()
    signed = SignedSnapshot(payload=payload, signature=sign(signer, payload.encode()))
    (state / "snapshot.json").write_text(signed.model_dump_json())
    path = folder / "gateway.toml"
    path.write_text(settings(folder, files, port, control_plane, free_port(), tls=False))
    words = (str(path), "plain", "spool")
    pid = stage.python(GATEWAY_CORE, "tests.bench.gateway_under_test", *words, program=measured_python())
    wait_for(port)
    return port, pid


def _snapshot(engines: tuple[Engine, ...]) -> Snapshot:
    now = datetime.now(UTC)
    replicas = tuple(
        SnapshotReplica(replica_id=f"replica_{number}", host="127.0.0.1", port=engine.port, certificate_pem="")
        for number, engine in enumerate(engines)
    )
    return Snapshot(
        site="bench",
        version=1,
        issued_at=now,
        expires_at=now + timedelta(hours=6),
        keys=tuple(_key(project, secret, now) for project, secret in KEYS.items()),
        endpoints=(
            _endpoint(BOTH, replicas, now, CONTEXT_TOKENS),
            _endpoint(ONE, replicas[:1], now, CONTEXT_TOKENS),
            _endpoint(SHORT, replicas[:1], now, SHORT_TOKENS),
        ),
        policies=shipped_policies(),
        shares=tuple(
            SnapshotShare(name=name, organisation="org", project=name, salt=sha256(name.encode()).hexdigest())
            for name in KEYS
        ),
        budgets=(
            SnapshotBudget(budget_id="budget_in", scope="project", share="blue", unit="prompt_tokens"),
            SnapshotBudget(budget_id="budget_out", scope="organisation", share="org", unit="completion_tokens"),
        ),
    )


def _endpoint(name: str, replicas: tuple[SnapshotReplica, ...], now: datetime, context_tokens: int) -> SnapshotEndpoint:
    return SnapshotEndpoint(
        name=name,
        endpoint_id=f"endpoint_{name}",
        revision_id=f"revision_{name}",
        zone="practice",
        context_tokens=context_tokens,
        created_at=now,
        replicas=replicas,
        project="blue",
        model="tiny",
        adapter="vllm",
        parallel=16,
        gpus=1,
    )


def _key(project: str, secret: str, now: datetime) -> SnapshotKey:
    digest = sha256(secret.encode()).hexdigest()
    return SnapshotKey(
        key_id=f"key_{project}",
        project=project,
        secrets=(SnapshotSecret(secret_id=f"secret_{project}", sha256=digest, expires_at=now + timedelta(days=1)),),
        endpoints=(BOTH, ONE, SHORT),
        zones=("practice",),
        purposes=("general",),
        classification=1,
        sources=("127.0.0.0/8",),
    )
