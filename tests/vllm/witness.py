"""`vllm bench serve`, which none of us wrote, straight at an engine and through the gateway: what the gateway adds."""

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests.bench.processes import GATEWAY_CORE, cpu_s
from tests.vllm.installation import program
from tests.vllm.stage import KEYS, ONE, Served

PROMPTS, PROMPT_TOKENS, ANSWER_TOKENS, CALLERS, WARMUPS = 200, 128, 32, 8, 8
FIGURES = (
    "request_throughput", "output_throughput", "median_ttft_ms", "p99_ttft_ms", "median_itl_ms", "p99_itl_ms",
)  # fmt: skip
_LONGEST_S = 600
Figures = dict[str, float]


def testify(served: Served, rounds: int) -> int:
    """Print the figures of both, turn about, each the median of its rounds; return 1 when a request failed."""
    ways = {"direct": served.engines[0].url, "gateway": served.url}
    told: dict[str, list[Figures]] = {way: [] for way in ways}
    load, cpu_us = os.getloadavg()[0], cpu_s(served.pid) * 1e6
    for number in range(rounds):
        for way in sorted(ways, reverse=bool(number % 2)):
            told[way].append(_measure(served, ways[way], seed=number))
    cpu_us = (cpu_s(served.pid) * 1e6 - cpu_us) / (rounds * (PROMPTS + WARMUPS))
    failed = {way: int(sum(figures["failed"] for figures in each)) for way, each in told.items()}
    medians = {way: {name: statistics.median(f[name] for f in each) for name in FIGURES} for way, each in told.items()}
    print(_table(medians, failed, rounds))
    print(
        f"{'gateway, CPU us':20}{cpu_us:24.0f}   a chat of {ANSWER_TOKENS} events; load of the machine {load:.1f}",
        flush=True,
    )
    return 1 if any(failed.values()) else 0


def _measure(served: Served, url: str, seed: int) -> Figures:
    """Run it once. A seed of its own for each round, or the second would find every prompt cached."""
    with tempfile.TemporaryDirectory() as folder:
        command = (
            *("taskset", "-c", str(GATEWAY_CORE), program(), "bench", "serve", "--backend", "openai-chat"),
            *(
                "--base-url",
                url,
                "--endpoint",
                "/v1/chat/completions",
                "--model",
                ONE,
                "--tokenizer",
                str(served.model),
            ),
            *("--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS), "--seed", str(seed)),
            *("--random-output-len", str(ANSWER_TOKENS), "--num-prompts", str(PROMPTS), "--ignore-eos"),
            *("--max-concurrency", str(CALLERS), "--num-warmups", str(WARMUPS), "--disable-tqdm", "--temperature", "0"),
            *("--percentile-metrics", "ttft,itl", "--metric-percentiles", "99"),
            *("--save-result", "--result-dir", folder, "--result-filename", "told.json"),
        )
        environment = {**os.environ, "OPENAI_API_KEY": KEYS["blue"], "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=_LONGEST_S)
        path = Path(folder) / "told.json"
        assert done.returncode == 0, f"vllm bench serve failed: {(done.stdout + done.stderr)[-2000:]}"
        assert path.exists(), f"vllm bench serve wrote nothing: {(done.stdout + done.stderr)[-2000:]}"
        told = json.loads(path.read_text())
    failed = PROMPTS - told["completed"]
    return {"failed": float(failed), **{name: float(told[name]) for name in FIGURES}}


def _table(medians: dict[str, Figures], failed: dict[str, int], rounds: int) -> str:
    head = (
        f"vllm bench serve, {rounds} rounds of {PROMPTS} chats ({PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out,"
        f" {CALLERS} at once), median of the rounds\n"
    )
    rows = [f"{'':20}{'direct':>12}{'gateway':>12}{'gateway/direct':>16}"]
    for name in FIGURES:
        direct, gateway = medians["direct"][name], medians["gateway"][name]
        rows.append(f"{name:20}{direct:12.2f}{gateway:12.2f}{gateway / direct if direct else 0:16.3f}")
    rows.append(f"{'failed':20}{failed['direct']:12}{failed['gateway']:12}")
    return head + "\n".join(rows)
