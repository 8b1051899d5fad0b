"""What a worker counts, one series for each endpoint, project and operation; a number of them that is bounded."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from operator import add

import msgspec

from controlplane.gateway.meter.gaps import Gaps, middle_us
from controlplane.gateway.records import Outcome

MOST_SERIES = 500  # beyond, further projects count as one
OTHER = "other"
_AT_ONCE = 50  # series
_FINISHES = frozenset({
    "stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", "tool_use", "stop_sequence",
    "function_call", "abort", "error",
})  # fmt: skip
# Bounds that vLLM's and OpenTelemetry's histograms have, in one list each: both are told from the same counts.
SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.025, 0.04, 0.05, 0.06, 0.075, 0.08, 0.1, 0.15, 0.16, 0.2, 0.25, 0.3, 0.32, 0.4, 0.5,
    0.64, 0.75, 0.8, 1.0, 1.28, 1.5, 2.0, 2.5, 2.56, 5.0, 5.12, 7.5, 10.0, 10.24, 15.0, 20.0, 20.48, 30.0, 40.0,
    40.96, 50.0, 60.0, 80.0, 81.92, 120.0, 160.0, 240.0, 480.0, 640.0, 960.0, 1920.0, 2560.0, 7680.0,
)  # fmt: skip
SHORTEST_US = SECONDS[0] * 1e6
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


class Histogram(msgspec.Struct, gc=False):
    """`counts` has one place for each bound and one for what is above all of them."""

    counts: list[int]
    total: float = 0.0

    def add(self, bounds: tuple[float, ...], value: float, times: int = 1) -> None:
        self.counts[bisect_left(bounds, value)] += times
        self.total += value * times

    def merge(self, other: "Histogram") -> None:
        if any(other.counts):
            self.counts = list(map(add, self.counts, other.counts))
            self.total += other.total


def _of_seconds() -> Histogram:
    return Histogram([0] * (len(SECONDS) + 1))


def _of_tokens() -> Histogram:
    return Histogram([0] * (len(TOKENS) + 1))


class Series(msgspec.Struct, kw_only=True):
    """Requests of one project, at one endpoint, of one operation. Times are seconds."""

    endpoint: str
    model: str
    zone: str
    project: str
    operation: str
    results: dict[str, int] = msgspec.field(default_factory=dict)
    finishes: dict[str, int] = msgspec.field(default_factory=dict)
    cached: int = 0
    reasoning: int = 0
    retries: int = 0
    gpu_s: float = 0.0
    prompt: Histogram = msgspec.field(default_factory=_of_tokens)
    generation: Histogram = msgspec.field(default_factory=_of_tokens)
    duration: Histogram = msgspec.field(default_factory=_of_seconds)
    queue: Histogram = msgspec.field(default_factory=_of_seconds)
    first_token: Histogram = msgspec.field(default_factory=_of_seconds)
    between_tokens: Histogram = msgspec.field(default_factory=_of_seconds)

    def empty(self) -> "Series":
        """Return one for the same that has counted nothing."""
        return Series(
            endpoint=self.endpoint, model=self.model, zone=self.zone, project=self.project, operation=self.operation
        )

    def merge(self, other: "Series") -> None:
        """Add what another worker counted."""
        for mine, its in ((self.results, other.results), (self.finishes, other.finishes)):
            for name, times in its.items():
                mine[name] = mine.get(name, 0) + times
        self.cached += other.cached
        self.reasoning += other.reasoning
        self.retries += other.retries
        self.gpu_s += other.gpu_s
        for name in ("prompt", "generation", "duration", "queue", "first_token", "between_tokens"):
            getattr(self, name).merge(getattr(other, name))


class Counted(msgspec.Struct):
    """All that one worker, or several together, counted. Gauges are of this moment."""

    series: list[Series] = []
    refusals: dict[str, int] = {}
    running: dict[str, int] = {}
    waiting: dict[str, int] = {}
    gauges: dict[str, float] = {}


class Metrics:
    """Counts at the end of each request; nothing here is done for each event."""

    def __init__(self, before: Counted | None = None) -> None:
        before = before or Counted()
        self._series = {(s.endpoint, s.project, s.operation): s for s in before.series}
        self._refusals = Counter(before.refusals)
        self.is_news = True  # something was counted since the others were told

    def refused(self, code: str) -> None:
        """Count a request that was refused before anything was written down about it."""
        self._refusals[code] += 1
        self.is_news = True

    def ended(self, outcome: Outcome, gaps: Gaps | None) -> None:
        self.is_news = True
        series = self._series.get((outcome.endpoint, outcome.project, outcome.surface)) or self._begin(outcome)
        result = outcome.code or outcome.result
        series.results[result] = series.results.get(result, 0) + 1
        series.duration.add(SECONDS, outcome.duration_us / 1e6)
        queue_us = outcome.queue_us
        if queue_us < SHORTEST_US:  # as most: it need not be looked for
            series.queue.counts[0] += 1
            series.queue.total += queue_us / 1e6
        else:
            series.queue.add(SECONDS, queue_us / 1e6)
        if outcome.retries or outcome.gpu_us:
            series.retries += outcome.retries
            series.gpu_s += outcome.gpu_us / 1e6
        if outcome.tokens_in is not None:
            _count_tokens(series, outcome)
        if outcome.ttft_us is not None:
            series.first_token.add(SECONDS, outcome.ttft_us / 1e6)
        if gaps:
            for bucket, times in gaps.items():
                series.between_tokens.add(SECONDS, middle_us(bucket) / 1e6, times)

    def keep(self, endpoints: Container[str], projects: Container[str]) -> None:
        """Let go of series of what is there no more, so that there is room for what came."""
        self._series = {
            key: one
            for key, one in self._series.items()
            if one.endpoint in endpoints and (one.project in projects or one.project == OTHER)
        }

    def counted(self) -> Counted:
        return Counted(list(self._series.values()), dict(self._refusals))

    def _begin(self, outcome: Outcome) -> Series:
        project = outcome.project if len(self._series) < MOST_SERIES else OTHER
        key = (outcome.endpoint, project, outcome.surface)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(
                endpoint=outcome.endpoint, model=outcome.model, zone=outcome.zone, project=project,
                operation=outcome.surface,
            )  # fmt: skip
        return series


def _count_tokens(series: Series, outcome: Outcome) -> None:
    series.prompt.add(TOKENS, outcome.tokens_in or 0)
    series.generation.add(TOKENS, outcome.tokens_out or 0)
    series.cached += outcome.tokens_cached or 0
    series.reasoning += outcome.tokens_reasoning or 0
    finish = outcome.finish if outcome.finish in _FINISHES or not outcome.finish else OTHER
    series.finishes[finish] = series.finishes.get(finish, 0) + 1


def merged(parts: Iterable[Counted]) -> Counted:
    """Return what all workers counted together."""
    *_, together = merging(parts)
    return together


def merging(parts: Iterable[Counted]) -> Iterator[Counted]:
    """Add one part after the other; the last that is yielded is the whole. Between two the caller may do other work."""
    series: dict[tuple[str, str, str], Series] = {}
    together = Counted()
    for part in parts:
        for number, one in enumerate(part.series, start=1):
            key = (one.endpoint, one.project, one.operation)
            if key not in series:
                series[key] = one.empty()  # a worker goes on counting in its own
            series[key].merge(one)
            if not number % _AT_ONCE:
                yield together
        for mine, its in (
            (together.refusals, part.refusals), (together.running, part.running), (together.waiting, part.waiting),
        ):  # fmt: skip
            for name, times in its.items():
                mine[name] = mine.get(name, 0) + times
        for name, value in part.gauges.items():
            together.gauges[name] = max(value, together.gauges.get(name, value))
        together.series = list(series.values())
        yield together
