"""`make bench-allocation`: what a placement costs us, beside `sbatch --test-only` of a real Slurm on the same fleet.

Both decide on a fleet of eight GPUs a node, most of them taken. Slurm's figure has its command's own start in it, which
is said apart. Growth is what the largest fleet costs against the smallest, by what it would cost if it grew linearly.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

from tests.bench.large_slurm import GPUS_PER_NODE, LargeSlurm, large_slurm
from tests.bench.planner import planner

SIZES = (125, 500, 1000)
TAKEN = 0.87
DECISIONS = 200
FEW = 20  # of those that go through the database; their p99 is the slowest
ASKED = (1, 2, 4, 8)


@dataclass(frozen=True)
class Latency:
    """Of one kind of decision on a fleet of `nodes`, in milliseconds."""

    what: str
    nodes: int
    p50_ms: float
    p99_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    asked = parser.parse_args()
    found: list[Latency] = []
    memory: dict[str, int] = {}
    for nodes in SIZES:
        found += [*_of_slurm(nodes, memory), *_of_ours(nodes, memory)]
    if asked.json:
        print(json.dumps({"machine": machine(), "latencies": [asdict(one) for one in found], "kib": memory}, indent=2))
        return
    print(f"allocation, on {machine()}; {TAKEN:.0%} of the GPUs taken")
    print(f"{DECISIONS} decisions each, {FEW} where a database is asked")
    for line in to_lines(found):
        print(line)
    for what, kib in memory.items():
        print(f"{what:58} {kib / 1024:8.1f} MiB")


def to_lines(found: list[Latency]) -> list[str]:
    """Return a line for each figure, with what Slurm takes for the same, and one for each growth."""
    slurm = {one.nodes: one for one in found if one.what == SLURM}
    lines = [
        f"{one.what:44} {one.nodes:5} nodes   p50 {one.p50_ms:8.2f} ms   p99 {one.p99_ms:8.2f} ms"
        f"   {one.p50_ms / slurm[one.nodes].p50_ms:6.2f} and {one.p99_ms / slurm[one.nodes].p99_ms:5.2f} x Slurm's"
        for one in found
    ]
    for what in dict.fromkeys(one.what for one in found):
        first, *_, last = [one for one in found if one.what == what]
        growth = last.p50_ms / first.p50_ms / (last.nodes / first.nodes)
        verdict = "at most linear" if growth <= 1 else "MORE than linear"
        lines.append(f"{what:44} grows {growth:.2f} x the fleet from {first.nodes} to {last.nodes}: {verdict}")
    return lines


SLURM = "sbatch --test-only"


def _of_slurm(nodes: int, memory: dict[str, int]) -> list[Latency]:
    with large_slurm(nodes) as slurm:
        slurm.take(jobs=int(nodes * TAKEN), gpus=GPUS_PER_NODE)
        found = [
            _measure(SLURM, nodes, lambda n: _test_only(slurm, ASKED[n % len(ASKED)])),
            _measure("  of that, the command's own start", nodes, lambda _: slurm.run("sbatch", "--version")),
        ]
        memory[f"slurmctld, {nodes} nodes"] = slurm.controller_kib()
    return found


def _test_only(slurm: LargeSlurm, gpus: int) -> None:
    slurm.run("sbatch", "--test-only", f"--gres=gpu:h100:{gpus}", "--time=60", "--wrap=true")


def _of_ours(nodes: int, memory: dict[str, int]) -> list[Latency]:
    with planner(nodes, GPUS_PER_NODE, taken=TAKEN) as ours:
        verbs: tuple[tuple[str, Callable[[int], object], int], ...] = (
            ("choice, in memory", ours.choose, DECISIONS),
            ("dry run, from the database", ours.explain, FEW),
            ("lease granted and ended, in the database", ours.grant, FEW),
            ("everything reconciled, every GPU leased", lambda _: ours.reconcile(), FEW // 2),
        )
        found = [_measure(what, nodes, partial(_ask, verb), times=times) for what, verb, times in verbs]
        memory[f"our fleet and leases, {nodes} nodes"] = ours.memory_kib
    return found


def _ask(verb: Callable[[int], object], number: int) -> None:
    verb(ASKED[number % len(ASKED)])


def _measure(what: str, nodes: int, decide: Callable[[int], object], times: int = DECISIONS) -> Latency:
    decide(0)
    took = []
    for number in range(times):
        began = time.perf_counter()
        decide(number)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return Latency(what, nodes, statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))])


def machine() -> str:
    return f"{len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
