"""What the gateway costs, beside its peers and a direct call: `python -m tests.bench.gateway [--only A+B]`.

One core for the gateway, one for load and engine; loopback only. All contenders take turns, several rounds, and each
figure is the best of its rounds. CPU is read from the gateway's processes and is the steady figure; requests a second
say more about the neighbours of this machine. Trust ratios within one run.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import uvloop

from tests.bench import peers
from tests.bench.contenders import Bench, Contender
from tests.bench.gateway_report import report, table
from tests.bench.load import hold, hurry, pace
from tests.bench.mock_engine import SLOW
from tests.bench.processes import LOAD_CORE, allow_many_files, cpu_s, memory_mib

CALLERS = 32
SOME_STREAMS = 1_000
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there as JSON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of contenders joined by +; all without")
    parser.add_argument("--memory", type=int, default=10_000, help="at most so many streams at once; 0 for none")
    parser.add_argument("--no-real", dest="real", action="store_false", help="leave real llama.cpp out")
    asked = parser.parse_args()
    missing = peers.install()
    os.sched_setaffinity(0, {LOAD_CORE})
    most_streams = min(allow_many_files(), asked.memory)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), stack)
        contenders = bench.start(frozenset(name for name in asked.only.split("+") if name))
        results = uvloop.run(measure_all(contenders, asked.rounds, most_streams))
        real = uvloop.run(measure_real(bench.start_real())) if asked.real else {}
        said = bench.log.read_text(errors="replace")[-2000:]
    told = report(results, missing) | {"real": real}
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))
    print(table(told))
    if any(row["errors"] for row in results.values()):
        sys.stderr.write(said)


async def measure_all(contenders: list[Contender], rounds: int, most_streams: int) -> dict[str, Figures]:
    """Return the best figures of every contender; errors add up."""
    results: dict[str, Figures] = {}
    for number in range(max(rounds, 1)):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            sys.stderr.write(f"round {number + 1}: {contender.target.name}\n")
            known = results.setdefault(contender.target.name, {"memory_idle_mib": memory_mib(contender.pid)})
            for figure, value in (await measure(contender)).items():
                known[figure] = round(_better(figure, known.get(figure), value), 2)
    for contender in contenders:
        known = results[contender.target.name]
        for figure, value in (await measure_memory(contender, most_streams)).items():
            known[figure] = round(value + known["errors"] if figure == "errors" else value, 2)
    return results


def _better(figure: str, known: float | None, value: float) -> float:
    if known is None:
        return value
    if figure in {"errors", "skipped"}:
        return known + value
    return max(known, value) if figure.endswith("per_s") else min(known, value)


async def measure(contender: Contender) -> Figures:
    """Return every figure of one contender in one round."""
    return await measure_slow(contender) if contender.is_slow else await measure_fast(contender)


async def measure_fast(contender: Contender) -> Figures:
    target, cpu = contender.target, partial(cpu_s, contender.pid)
    found = await _hurried(contender, callers=CALLERS, seconds=0.6)
    alone = await hurry(target, callers=1, seconds=0.3, prompt_bytes=600, cpu_s=cpu)
    busy = await pace(target, per_second=1000, seconds=1.5, stream=False, callers=64, cpu_s=cpu)
    calm = await pace(target, per_second=25, seconds=1.6, stream=True, callers=40, cpu_s=cpu)
    streams = await pace(target, per_second=100, seconds=1.2, stream=True, callers=150, cpu_s=cpu)
    more = await pace(target, per_second=2000, seconds=0.8, stream=False, callers=128, cpu_s=cpu)
    quantiles, first = statistics.quantiles(busy.taken_s, n=100), sorted(calm.taken_s)
    return found | {
        "alone_p50_us": statistics.median(alone.taken_s) * 1e6,
        "at_1000_p50_us": quantiles[49] * 1e6,
        "at_1000_p99_us": quantiles[98] * 1e6,
        "at_1000_cpu_us": busy.cpu_s / max(busy.answers, 1) * 1e6,
        "at_2000_cpu_us": more.cpu_s / max(more.answers, 1) * 1e6,
        "event_cpu_us": streams.cpu_s / max(streams.events, 1) * 1e6,
        "first_event_p50_us": statistics.median(first) * 1e6,
        "first_event_p90_us": first[int(len(first) * 0.9)] * 1e6,
        "errors": found["errors"] + sum(count.errors for count in (alone, busy, calm, streams, more)),
        "skipped": sum(count.skipped for count in (busy, calm, streams, more)),
    }


async def measure_slow(contender: Contender) -> Figures:
    """Measure one that would only queue under the others' load: CPU alone, at a tenth of it."""
    cpu = partial(cpu_s, contender.pid)
    found = await _hurried(contender, callers=4, seconds=2.0)
    streams = await pace(contender.target, per_second=8, seconds=2.0, stream=True, callers=40, cpu_s=cpu)
    return found | {
        "event_cpu_us": streams.cpu_s / max(streams.events, 1) * 1e6,
        "errors": found["errors"] + streams.errors,
        "skipped": streams.skipped,
    }


async def _hurried(contender: Contender, *, callers: int, seconds: float) -> Figures:
    found: Figures = {"errors": 0.0}
    cpu = partial(cpu_s, contender.pid)
    for work, prompt_bytes in (("plain", 600), ("plain_32k", 32_000)):
        count = await hurry(contender.target, callers=callers, seconds=seconds, prompt_bytes=prompt_bytes, cpu_s=cpu)
        found[f"{work}_per_s"] = count.answers / count.lasted_s
        found[f"{work}_cpu_us"] = count.cpu_s / max(count.answers, 1) * 1e6
        found["errors"] += count.errors
    return found


async def measure_real(contenders: list[Contender]) -> dict[str, Figures]:
    """Return what a client sees of real llama.cpp servers, with and without the gateway in front."""
    found: dict[str, Figures] = {}
    for contender in contenders:
        cpu = partial(cpu_s, contender.pid)
        plain = await hurry(contender.target, callers=4, seconds=2.0, prompt_bytes=600, cpu_s=cpu)
        streams = await pace(contender.target, per_second=3, seconds=2.0, stream=True, callers=8, cpu_s=cpu)
        found[contender.target.name] = {
            "answers_per_s": round(plain.answers / plain.lasted_s, 1),
            "p50_ms": round(statistics.median(plain.taken_s or [0.0]) * 1e3, 2),
            "first_event_p50_ms": round(statistics.median(streams.taken_s or [0.0]) * 1e3, 2),
            "cpu_us": round(plain.cpu_s / max(plain.answers, 1) * 1e6, 1),
            "errors": plain.errors + streams.errors,
        }
    return found


async def measure_memory(contender: Contender, most_streams: int) -> Figures:
    """Return the memory with many slow streams at once."""
    found: Figures = {"errors": 0.0}
    if contender.is_slow or contender.pid is None or contender.target.context is not None:
        return found
    figures = partial(memory_mib, contender.pid)
    for name, streams in (("memory_1000_mib", SOME_STREAMS), ("memory_most_mib", most_streams)):
        if SOME_STREAMS <= streams <= most_streams:
            found[name], errors = await hold(contender.target, streams=streams, figures=figures, opening=SLOW)
            found["errors"] += errors
            found["most_streams"] = streams
            await asyncio.sleep(1.0)
    return found


if __name__ == "__main__":
    main()
