"""The figures of the gateway's bench as ratios, goals and a table."""

import os
import sys
from dataclasses import dataclass

from tests.bench.processes import measured_python

Figures = dict[str, float]
Results = dict[str, Figures]

_COLUMNS = (
    ("CPU us/req", "plain_cpu_us"),
    ("req/s", "plain_per_s"),
    ("CPU 32 kB", "plain_32k_cpu_us"),
    ("CPU us/event", "event_cpu_us"),
    ("p50 alone", "alone_p50_us"),
    ("p50 @1000/s", "at_1000_p50_us"),
    ("p99 @1000/s", "at_1000_p99_us"),
    ("first event", "first_event_p50_us"),
    ("its p90", "first_event_p90_us"),
    ("MiB idle", "memory_idle_mib"),
    ("MiB 1,000", "memory_1000_mib"),
    ("MiB 10,000", "memory_most_mib"),
)


@dataclass(frozen=True)
class Goal:
    """`value` None: one of the contenders is missing. `at_least` says which side of `bound` is good."""

    what: str
    value: float | None
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def report(results: Results, missing: list[str]) -> dict:
    """Return everything that is known of one run."""
    return {
        "machine": {
            "cores": os.cpu_count(),
            "python": f"{sys.version.split()[0]} {measured_python()}",
            "load_1m": os.getloadavg()[0],
        },
        "missing": missing,
        "results": results,
        "goals": [
            {"what": g.what, "value": g.value, "bound": g.bound, "at_least": g.at_least, "met": g.met}
            for g in goals(results)
        ],
        "spool": spool_cost(results),
    }


def goals(results: Results) -> list[Goal]:
    """Return the goals of the Speed table, each with what this run found."""

    def ratio(rival: str, figure: str) -> float | None:
        """Return how many times ours the rival's figure is."""
        theirs, ours = results.get(rival, {}).get(figure), results.get("redoubt", {}).get(figure)
        return round(theirs / ours, 2) if theirs and ours else None

    def added(name: str, figure: str) -> float | None:
        mine, direct = results.get(name, {}).get(figure), results.get("direct", {}).get(figure)
        return None if mine is None or direct is None else mine - direct

    def times_nginx(figure: str) -> float | None:
        ours, theirs = added("redoubt", figure), added("nginx", figure)
        return None if ours is None or not theirs or theirs <= 0 else round(ours / theirs, 2)

    ours = results.get("redoubt", {})
    nginx = results.get("nginx", {})
    some, many, more = ours.get("memory_1000_mib"), ours.get("memory_most_mib"), ours.get("most_streams", 0) - 1_000
    first = (
        None
        if "first_event_p50_us" not in nginx or not ours
        else ours["first_event_p50_us"] - nginx["first_event_p50_us"]
    )
    growth = ours["at_2000_cpu_us"] / ours["at_1000_cpu_us"] if ours.get("at_1000_cpu_us") else None
    return [
        Goal("plain request: CPU of nginx / ours", ratio("nginx", "plain_cpu_us"), 0.65),
        Goal("plain request: CPU of vllm-router round-robin / ours", ratio("vllm-router", "plain_cpu_us"), 1.7),
        Goal("plain request: CPU of sglang-router cache-aware / ours", ratio("sglang-router", "plain_cpu_us"), 2.0),
        Goal("plain request: CPU of litellm / ours", ratio("litellm", "plain_cpu_us"), 200),
        Goal("streamed event: CPU of nginx / ours", ratio("nginx", "event_cpu_us"), 0.90),
        Goal("streamed event: CPU of vllm-router / ours", ratio("vllm-router", "event_cpu_us"), 1.15),
        Goal("32 kB prompt: CPU of sglang-router / ours", ratio("sglang-router", "plain_32k_cpu_us"), 2.0),
        Goal("added p50 at 1,000/s: ours / nginx", times_nginx("at_1000_p50_us"), 1.2, at_least=False),
        Goal("added p99 at 1,000/s: ours / nginx", times_nginx("at_1000_p99_us"), 2.0, at_least=False),
        Goal("first event over nginx's, us", None if first is None else round(first), 200, at_least=False),
        Goal("first event p90, us: no 40 ms step", ours.get("first_event_p90_us"), 40_000, at_least=False),
        Goal("MiB at 1,000 streams", ours.get("memory_1000_mib"), 80, at_least=False),
        Goal(
            f"kB for each of {ours.get('most_streams', 0):,.0f} streams",
            None if many is None or some is None or more <= 0 else round((many - some) * 1048.576 / more, 2),
            15,
            at_least=False,
        ),
        Goal(
            "linear: CPU a request at 2,000/s over 1,000/s",
            None if growth is None else round(growth, 2),
            1.1,
            at_least=False,
        ),
    ]


def spool_cost(results: Results) -> Figures:
    """Compare the gateway with itself without its spool: what it costs to write every request down first."""
    mine, without = results.get("redoubt"), results.get("no spool")
    if not mine or not without:
        return {}
    added = ("alone_p50_us", "at_1000_p50_us", "at_1000_p99_us", "plain_cpu_us")
    return {f"spool_adds_{figure}": round(mine[figure] - without[figure], 1) for figure in added}


def table(told: dict) -> str:
    """Return the figures as a person reads them."""
    lines = [f"{'':16}" + "".join(f"{title:>13}" for title, _ in _COLUMNS)]
    for name, row in told["results"].items():
        cells = (f"{row[figure]:13.1f}" if figure in row else f"{'-':>13}" for _, figure in _COLUMNS)
        lines.append(f"{name:16}" + "".join(cells))
    lines.append(
        f"load {told['machine']['load_1m']:.1f}, {told['machine']['python']}; times in us, from the client; goals:"
    )
    for goal in told["goals"]:
        word = {True: "met", False: "MISSED", None: "not measured"}[goal["met"]]
        bound = f"{'at least' if goal['at_least'] else 'at most'} {goal['bound']}"
        lines.append(
            f"  {goal['what']:56} {goal['value'] if goal['value'] is not None else '-':>10}  {bound:16} {word}"
        )
    lines += [f"  {figure}: {value}" for figure, value in told["spool"].items()]
    lines += [
        f"{figure}: " + ", ".join(f"{name} {row.get(figure, 0):.0f}" for name, row in told["results"].items())
        for figure in ("errors", "skipped")
    ]
    lines += [f"real llama.cpp, {name}: {row}" for name, row in told["real"].items()]
    return "\n".join([*lines, *(f"missing: {reason}" for reason in told["missing"])])
