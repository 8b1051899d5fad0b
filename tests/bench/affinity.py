"""Prefix affinity: chats of many tenants, four engines with small caches, each router in turn, engines fresh.

`python -m tests.bench.affinity [--seconds N] [--per-s N] [--users N] [--workers N]` prints a table and writes
affinity.json.
"""

import argparse
import asyncio
import json
import os
import re
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import SignedSnapshot, SnapshotReplica
from controlplane.kit.crypto import public_pem, sign
from tests.bench import peers
from tests.bench.affinity_model import Load, Turn, turns
from tests.bench.affinity_simulated import ENGINES, cache_tokens_of, optimum_of
from tests.bench.measured_site import KEY, settings, snapshot
from tests.bench.processes import GATEWAY_CORE, LOAD_CORE, Stage, free_port, measured_python, wait_for
from tests.support.certificates import issue, make_site_ca

ANSWER_TOKENS = 16
_FIRST = 8  # of ours, each worker has its budgets granted with its first request: 0.2 s
_USAGE = re.compile(rb'"prompt_tokens":(\d+).*?"cached_tokens":(\d+)')


@dataclass
class Seen:
    tokens: int = 0
    cached: int = 0
    failed: int = 0
    ttft_s: list[float] = field(default_factory=list)
    read: Counter[str] = field(default_factory=Counter)  # tokens that were not cached, by engine

    def row(self, optimum: float) -> dict[str, float]:
        ordered, hit = sorted(self.ttft_s), self.cached / max(1, self.tokens)
        return {
            "cached": round(hit, 4),
            "of_optimum": round(hit / optimum, 4),
            "busiest": round(max(self.read.values()) * ENGINES / sum(self.read.values()), 3) if self.read else 0.0,
            "ttft_p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
            "ttft_p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 1),
            "failed": self.failed,
        }


async def offer(load: Load, ports: list[int], key: str) -> Seen:
    """Send every turn at its time, to the ports in turn, after what a router does for its first request alone."""
    for port in ports * _FIRST:
        await _ask(Seen(), Turn(0.0, 0, 0, (b"hello", b"hello")), port, key)
    seen, began_s, tasks = Seen(), time.monotonic(), []
    for number, turn in enumerate(turns(load)):
        await asyncio.sleep(began_s + turn.at_s - time.monotonic())
        tasks.append(asyncio.create_task(_ask(seen, turn, ports[number % len(ports)], key)))
    await asyncio.gather(*tasks)
    return seen


async def _ask(seen: Seen, turn: Turn, port: int, key: str) -> None:
    began_s = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_request(turn, key))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readuntil(b"data: ")
        seen.ttft_s.append(time.monotonic() - began_s)
        answer = await asyncio.wait_for(reader.readuntil(b"[DONE]"), 120)
        writer.close()
        tokens, cached = map(int, _USAGE.findall(answer)[-1])
    except (OSError, EOFError, IndexError, TimeoutError, asyncio.LimitOverrunError):
        seen.failed += 1
        return
    seen.tokens += tokens
    seen.cached += cached
    seen.read[_engine(answer) if b" 200 " in head else "?"] += tokens - cached


def _engine(answer: bytes) -> str:
    return answer.partition(b'"id":"')[2].partition(b'"')[0].decode()


def _request(turn: Turn, key: str) -> bytes:
    messages = [{"role": "user" if n else "system", "content": said.decode()} for n, said in enumerate(turn.messages)]
    body = json.dumps(
        {
            "messages": messages,
            "model": "chat",
            "max_tokens": ANSWER_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n" % (key.encode(), len(body)) + body


def _gateway(folder: Path, stage: Stage, engines: list[int], workers: int) -> int:
    """Start ours, with keys, policies, budgets, queue, records and metering on; return its port."""
    port, control_plane, signer = free_port(), free_port(), Ed25519PrivateKey.generate()
    files = issue(make_site_ca(folder), "gateway")
    stage.python(LOAD_CORE, "tests.bench.mock_control_plane", str(control_plane))
    wait_for(control_plane)
    (folder / "state").mkdir()
    (folder / "snapshot.pub").write_bytes(public_pem(signer))
    replicas = tuple(
        SnapshotReplica(replica_id=f"replica_{n}", host="127.0.0.1", port=engine, certificate_pem="")
        for n, engine in enumerate(engines)
    )
    served = snapshot(replicas)
    endpoint = served.endpoints[0].model_copy(update={"context_tokens": 65_536})
    payload = served.model_copy(update={"endpoints": (endpoint,)}).model_dump_json()
    signed = SignedSnapshot(payload=payload, signature=sign(signer, payload.encode()))
    (folder / "state/snapshot.json").write_text(signed.model_dump_json())
    written = settings(folder, files, port, control_plane, free_port(), tls=False)
    (folder / "gateway.toml").write_text(f"workers = {workers}\n{written}")
    words = (str(folder / "gateway.toml"), "plain", "spool")
    stage.python(GATEWAY_CORE, "tests.bench.gateway_under_test", *words, program=measured_python())
    wait_for(port)
    return port


def _router(name: str, folder: Path, stage: Stage, engines: list[int]) -> tuple[int, str] | None:
    port = free_port()
    peer = peers.find_router(name, folder, port, tuple(engines))
    if peer is None:
        return None
    stage.program(GATEWAY_CORE, *peer.command, environment=peer.environment)
    wait_for(port)
    return port, peer.key


def measure(name: str, load: Load, workers: int) -> Seen | None:
    """Run the load through one router, in front of engines that nobody asked before; None when it is not installed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stage, engines = Stage(folder, stack), [free_port() for _ in range(ENGINES)]
        stage.python(LOAD_CORE, "tests.bench.affinity_engines", str(cache_tokens_of(load)), *map(str, engines))
        for engine in engines:
            wait_for(engine)
        if name == "redoubt":
            return asyncio.run(offer(load, [_gateway(folder, stage, engines, workers)], KEY))
        if name == "round robin":
            return asyncio.run(offer(load, engines, KEY))
        found = _router(name, folder, stage, engines)
        return asyncio.run(offer(load, [found[0]], found[1])) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--per-s", type=float, default=40.0)
    parser.add_argument("--users", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of our gateway; a site has two")
    parser.add_argument("--json", type=Path, default=Path("affinity.json"))
    asked = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    load = Load(asked.per_s, asked.users, seconds=asked.seconds, answer_tokens=ANSWER_TOKENS)
    optimum = optimum_of(load)
    rows = {"offline optimum (one endless cache)": {"cached": round(optimum, 4)}}
    for name in ("round robin", peers.SGLANG_ROUTER, "redoubt"):
        seen = measure(name, load, asked.workers)
        if seen is not None:
            rows[name] = seen.row(optimum)
    asked.json.write_text(json.dumps({"load": vars(asked) | {"json": str(asked.json)}, "rows": rows}, indent=1))
    for name, row in rows.items():
        print(f"{name:36}", "  ".join(f"{word} {value}" for word, value in row.items()))


if __name__ == "__main__":
    main()
