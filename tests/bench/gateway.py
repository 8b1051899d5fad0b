"""What the gateway costs, beside nginx and a direct call: `python -m tests.bench.gateway [--json] [--rounds 2]`.

One core for the gateway, one for load and engine; loopback only. All contenders take turns, several rounds, and each
figure is the best of its rounds. CPU is read from the gateway's process and is the steady figure; requests a second say
more about the neighbours of this machine. Trust ratios within one run.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import (
    SignedSnapshot,
    Snapshot,
    SnapshotEndpoint,
    SnapshotKey,
    SnapshotReplica,
    SnapshotSecret,
)
from controlplane.kit.crypto import public_pem, self_signed, sign
from controlplane.kit.tls import CertificateFiles, client_context
from tests.bench.load import Target, hurry, pace
from tests.support.certificates import issue, make_site_ca

KEYS = 10_000
KEY = "rdk_" + "b" * 43
CORES = sorted(os.sched_getaffinity(0))
GATEWAY_CORE, LOAD_CORE = CORES[0], CORES[-1]
CALLERS = 32


@dataclass(frozen=True)
class Contender:
    target: Target
    pid: int | None  # None: the direct call, which has no process between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack)
        results = uvloop.run(measure_all(bench.start(), asked.rounds))
    report = {
        "machine": {"cores": len(CORES), "python": sys.version.split()[0], "load_1m": os.getloadavg()[0]},
        "nginx": bool(shutil.which("nginx")),
        "results": results,
        "ratios": ratios(results),
    }
    print(json.dumps(report, indent=1) if asked.json else table(report))


async def measure_all(contenders: list[Contender], rounds: int) -> dict[str, dict[str, float]]:
    """Return the best figures of every contender; errors add up."""
    results: dict[str, dict[str, float]] = {}
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            known = results.setdefault(contender.target.name, {})
            for figure, value in (await measure(contender)).items():
                known[figure] = round(_better(figure, known.get(figure), value), 2)
    return results


def _better(figure: str, known: float | None, value: float) -> float:
    if known is None:
        return value
    if figure in {"errors", "skipped"}:
        return known + value
    return max(known, value) if figure.endswith("per_s") else min(known, value)


async def measure(contender: Contender) -> dict[str, float]:
    """Return every figure of one contender in one round."""
    target, cpu = contender.target, partial(cpu_s, contender.pid)
    found: dict[str, float] = {"errors": 0, "skipped": 0}
    for work, prompt_bytes in (("plain", 600), ("plain_32k", 32_000)):
        count = await hurry(target, KEY, callers=CALLERS, seconds=0.3, prompt_bytes=prompt_bytes, cpu_s=cpu)
        found[f"{work}_per_s"] = count.answers / count.lasted_s
        found[f"{work}_cpu_us"] = count.cpu_s / max(count.answers, 1) * 1e6
        found["errors"] += count.errors
    alone = await hurry(target, KEY, callers=1, seconds=0.2, prompt_bytes=600, cpu_s=cpu)
    busy = await pace(target, KEY, per_second=1000, seconds=0.4, stream=False, callers=64, cpu_s=cpu)
    streams = await pace(target, KEY, per_second=60, seconds=0.6, stream=True, callers=90, cpu_s=cpu)
    quantiles = statistics.quantiles(busy.taken_s, n=100)
    return found | {
        "alone_p50_us": statistics.median(alone.taken_s) * 1e6,
        "at_1000_p50_us": quantiles[49] * 1e6,
        "at_1000_p99_us": quantiles[98] * 1e6,
        "event_cpu_us": streams.cpu_s / max(streams.events, 1) * 1e6,
        "first_event_p50_us": statistics.median(streams.taken_s) * 1e6,
        "errors": found["errors"] + busy.errors + streams.errors,
        "skipped": busy.skipped + streams.skipped,
        "memory_mib": memory_mib(contender.pid),
    }


def ratios(results: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Compare every contender with the direct call, and ours with nginx under the same TLS."""
    direct = results["direct"]
    found: dict[str, dict[str, float]] = {}
    for name, mine in results.items():
        if name == "direct":
            continue
        added = ("alone_p50_us", "at_1000_p50_us", "at_1000_p99_us", "first_event_p50_us")
        found[name] = {f"added_{figure}": round(mine[figure] - direct[figure], 1) for figure in added}
        if name == "redoubt":
            found[name] |= spool_cost(mine, results["no spool"])
        rival = results.get(name.replace("redoubt", "nginx"))
        if rival is not None and rival is not mine:
            for figure in ("plain_cpu_us", "plain_32k_cpu_us", "event_cpu_us"):
                found[name][f"nginx_over_ours_{figure}"] = round(rival[figure] / mine[figure], 2)
    return found


def spool_cost(mine: dict[str, float], without: dict[str, float]) -> dict[str, float]:
    """Compare the gateway with itself without its spool: what it costs to write every request down first."""
    added = ("alone_p50_us", "at_1000_p50_us", "at_1000_p99_us")
    cost = {f"spool_adds_{figure}": round(mine[figure] - without[figure], 1) for figure in added}
    cost["spool_over_none_per_s"] = round(mine["plain_per_s"] / without["plain_per_s"], 2)
    return cost | {"spool_over_none_cpu": round(mine["plain_cpu_us"] / without["plain_cpu_us"], 2)}


def table(report: dict) -> str:
    """Return the figures as a person reads them."""
    columns = (
        ("CPU us/req", "plain_cpu_us"),
        ("req/s", "plain_per_s"),
        ("CPU 32 kB", "plain_32k_cpu_us"),
        ("CPU us/event", "event_cpu_us"),
        ("p50 alone", "alone_p50_us"),
        ("p50 @1000/s", "at_1000_p50_us"),
        ("p99 @1000/s", "at_1000_p99_us"),
        ("first event", "first_event_p50_us"),
        ("MiB", "memory_mib"),
    )
    lines = [f"{'':22}" + "".join(f"{title:>14}" for title, _ in columns)]
    for name, row in report["results"].items():
        lines.append(f"{name:22}" + "".join(f"{row[figure]:14.1f}" for _, figure in columns))
    lines.append("times in us; added to the direct call, and nginx's CPU over ours (1.0 = equal):")
    for name, row in report["ratios"].items():
        lines.append(f"{name:22}" + "  ".join(f"{figure}={value}" for figure, value in row.items()))
    lines += [
        f"{figure}: " + ", ".join(f"{name} {row[figure]:.0f}" for name, row in report["results"].items())
        for figure in ("errors", "skipped")
    ]
    if not report["nginx"]:
        lines.append("nginx is not installed, so the yardstick is missing: apt-get install nginx-light")
    return "\n".join(lines)


class Bench:
    """Starts engine, gateways and nginx; everything ends with the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._files = issue(make_site_ca(folder), "gateway")
        self._engine = self_signed("replica_bench")
        self._engine_port, self._engine_tls_port = free_port(), free_port()
        (folder / "engine.pem").write_bytes(self._engine.key_pem + self._engine.certificate_pem)

    def start(self) -> list[Contender]:
        """Start everything; what waits for its turn costs nothing."""
        ports = (str(self._engine_port), str(self._engine_tls_port))
        engine_files = (str(self._folder / "engine.pem"), str(self._files.ca))
        self._start(LOAD_CORE, "-m", "tests.bench.mock_engine", *ports, *engine_files)
        wait_for(self._engine_tls_port)
        found = [Contender(Target("direct", self._engine_port), None)]
        found.append(self._gateway(tls=False, spool=False))
        for tls in (False, True):
            found.append(self._gateway(tls=tls))
            if shutil.which("nginx"):
                found.append(self._nginx(tls=tls))
        return found

    def _target(self, name: str, port: int, *, tls: bool) -> Target:
        return Target(f"{name}, TLS", port, client_context(self._files.ca)) if tls else Target(name, port)

    def _gateway(self, *, tls: bool, spool: bool = True) -> Contender:
        """Start a gateway; with `tls` both its sides are encrypted, as on a site."""
        folder, port = self._folder / f"gateway-{tls}-{spool}", free_port()
        (folder / "state").mkdir(parents=True)
        signer = Ed25519PrivateKey.generate()
        (folder / "snapshot.pub").write_bytes(public_pem(signer))
        (folder / "state/snapshot.json").write_text(self._snapshot(signer, tls=tls))
        (folder / "gateway.toml").write_text(settings(folder, self._files, port, tls=tls))
        words = ("tls" if tls else "plain", "spool" if spool else "no-spool")
        arguments = ("-m", "tests.bench.gateway_under_test", str(folder / "gateway.toml"), *words)
        process = self._start(GATEWAY_CORE, *arguments)
        wait_for(port)
        return Contender(self._target("redoubt" if spool else "no spool", port, tls=tls), process.pid)

    def _snapshot(self, signer: Ed25519PrivateKey, *, tls: bool) -> str:
        replica = SnapshotReplica(
            replica_id="replica_bench",
            host="127.0.0.1",
            port=self._engine_tls_port if tls else self._engine_port,
            certificate_pem=self._engine.certificate_pem.decode(),
        )
        payload = snapshot(replica).model_dump_json()
        return SignedSnapshot(payload=payload, signature=sign(signer, payload.encode())).model_dump_json()

    def _nginx(self, *, tls: bool) -> Contender:
        folder, port = self._folder / f"nginx-{tls}", free_port()
        folder.mkdir()
        engine = self._engine_tls_port if tls else self._engine_port
        (folder / "nginx.conf").write_text(nginx_settings(folder, self._files, port, engine, tls=tls))
        process = self._start(GATEWAY_CORE, program=("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")))
        wait_for(port)
        return Contender(self._target("nginx", port, tls=tls), process.pid)

    def _start(
        self, core: int, *arguments: str, program: tuple[str, ...] = (sys.executable,)
    ) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / "processes.log").open("ab"))
        process = subprocess.Popen(["taskset", "-c", str(core), *program, *arguments], stderr=log)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


def snapshot(replica: SnapshotReplica) -> Snapshot:
    now = datetime.now(UTC)
    secrets = [KEY, *(f"rdk_{number}" for number in range(KEYS))]
    digests = [sha256(secret.encode()).hexdigest() for secret in secrets]
    endpoint = SnapshotEndpoint(
        name="chat",
        endpoint_id="endpoint_bench",
        revision_id="revision_bench",
        zone="practice",
        context_tokens=4096,
        created_at=now,
        replicas=(replica,),
    )
    return Snapshot(
        site="bench",
        version=1,
        issued_at=now,
        expires_at=now + timedelta(hours=1),
        keys=tuple(bench_key(digest, now) for digest in digests),
        endpoints=(endpoint,),
    )


def bench_key(digest: str, now: datetime) -> SnapshotKey:
    secret = SnapshotSecret(secret_id=f"secret_{digest[:8]}", sha256=digest, expires_at=now + timedelta(days=1))
    return SnapshotKey(
        key_id=f"key_{digest[:8]}",
        project="bench",
        secrets=(secret,),
        endpoints=("chat",),
        zones=("practice",),
        purposes=("general",),
        classification=1,
        sources=("127.0.0.0/8",),
    )


def settings(folder: Path, files: CertificateFiles, port: int, *, tls: bool) -> str:
    ours = f'{{certificate = "{files.certificate}", key = "{files.key}", ca = "{files.ca}"}}'
    return f"""
site = "bench"
snapshot_public_key = "{folder / "snapshot.pub"}"
state_dir = "{folder / "state"}"
upstream_tls = {ours}
control_plane = {{url = "http://127.0.0.1:9"}}
[listen]
host = "127.0.0.1"
port = {port}
{f"tls = {ours}" if tls else ""}
"""


def nginx_settings(folder: Path, files: CertificateFiles, port: int, engine: int, *, tls: bool) -> str:
    listen = f"{port} ssl" if tls else str(port)
    ours = f"ssl_certificate {files.certificate}; ssl_certificate_key {files.key}; ssl_protocols TLSv1.3;"
    theirs = f"proxy_ssl_certificate {files.certificate}; proxy_ssl_certificate_key {files.key};"
    theirs += " proxy_ssl_protocols TLSv1.3;"
    return f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 8m; client_body_buffer_size 128k; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{listen}; {ours if tls else ""}
    location / {{
      proxy_pass {"https" if tls else "http"}://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; {theirs if tls else ""}
    }}
  }}
}}
"""


def cpu_s(pid: int | None) -> float:
    """Return the CPU time of all threads of a process."""
    if pid is None:
        return 0.0
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def memory_mib(pid: int | None) -> float:
    if pid is None:
        return 0.0
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("Pss:")[2].split()[0]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
