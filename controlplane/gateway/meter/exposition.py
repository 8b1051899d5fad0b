"""What was counted, as Prometheus reads it (text format 0.0.4), under the names that dashboards know.

`vllm:` names and bounds are those of vLLM's own metrics, by endpoint; `gen_ai_` names those of OpenTelemetry's semantic
conventions for generative AI; `redoubt_` is what neither has.
"""

from collections.abc import Callable, Iterable, Iterator

from controlplane.gateway.meter.metrics import SECONDS, TOKENS, Counted, Histogram, Series

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_VLLM_FIRST = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_VLLM_BETWEEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_VLLM_WHOLE = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_OTEL_FIRST = _VLLM_FIRST[:16]
_OTEL_BETWEEN = _VLLM_BETWEEN[:13]
_OTEL_WHOLE = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_OPERATIONS = {"chat": "chat", "messages": "chat", "responses": "chat", "completions": "text_completion"}
_PROVIDER = "redoubt"

Labels = tuple[tuple[str, str], ...]
LabelsOf = Callable[[Series], Labels]


def render(counted: Counted) -> bytes:
    """Return the whole page."""
    return to_page(lines_of(counted))


def lines_of(counted: Counted) -> Iterator[str]:
    """Yield the lines of the page; between two the caller may do other work."""
    yield from _of_vllm(counted)
    yield from _of_otel(counted.series)
    yield from _of_redoubt(counted)


def to_page(lines: Iterable[str]) -> bytes:
    return "\n".join((*lines, "")).encode()


def _of_vllm(counted: Counted) -> Iterator[str]:
    models = _gathered(counted.series, lambda one: (("model_name", one.endpoint),))
    yield from _gauge("vllm:num_requests_running", "Requests at a replica.", counted.running)
    yield from _gauge("vllm:num_requests_waiting", "Requests in the queue.", counted.waiting)
    yield from _head("vllm:request_success_total", "counter", "Requests that ended, by the reason of the model.")
    for labels, one in models.items():
        for reason, times in sorted(one.finishes.items()):
            yield _sample("vllm:request_success_total", (*labels, ("finished_reason", reason)), times)
    sums: tuple[tuple[str, str, Callable[[Series], float]], ...] = (
        ("vllm:prompt_tokens_total", "Prompt tokens.", lambda one: one.prompt.total),
        ("vllm:generation_tokens_total", "Tokens of answers.", lambda one: one.generation.total),
        ("vllm:prefix_cache_queries_total", "Prompt tokens that a cache was asked for.", lambda one: one.prompt.total),
        ("vllm:prefix_cache_hits_total", "Prompt tokens that came from a cache.", lambda one: one.cached),
    )
    for name, words, value in sums:
        yield from _head(name, "counter", words)
        yield from (_sample(name, labels, value(one)) for labels, one in models.items())
    for name, words, field, bounds in (
        ("vllm:time_to_first_token_seconds", "From the request to its first event.", "first_token", _VLLM_FIRST),
        ("vllm:inter_token_latency_seconds", "Between two events of a stream.", "between_tokens", _VLLM_BETWEEN),
        ("vllm:e2e_request_latency_seconds", "From the request to its end.", "duration", _VLLM_WHOLE),
        ("vllm:request_queue_time_seconds", "Waiting for a seat.", "queue", _VLLM_WHOLE),
        ("vllm:request_prompt_tokens", "Prompt tokens of a request.", "prompt", TOKENS),
        ("vllm:request_generation_tokens", "Tokens of an answer.", "generation", TOKENS),
    ):
        yield from _histograms(name, words, field, bounds, models)


def _of_otel(series: Iterable[Series]) -> Iterator[str]:
    models = _gathered(series, _otel_labels)
    for name, words, field, bounds in (
        ("gen_ai_server_request_duration_seconds", "From the request to its end.", "duration", _OTEL_WHOLE),
        ("gen_ai_server_time_to_first_token_seconds", "To the first event.", "first_token", _OTEL_FIRST),
        ("gen_ai_server_time_per_output_token_seconds", "Between two events.", "between_tokens", _OTEL_BETWEEN),
    ):
        yield from _histograms(name, words, field, bounds, models)
    name = "gen_ai_client_token_usage"
    yield from _head(name, "histogram", "Tokens of a request.")
    for labels, one in models.items():
        for kind, histogram in (("input", one.prompt), ("output", one.generation)):
            yield from _histogram(name, (*labels, ("gen_ai_token_type", kind)), histogram, TOKENS)


def _otel_labels(one: Series) -> Labels:
    return (
        ("gen_ai_operation_name", _OPERATIONS.get(one.operation, one.operation)),
        ("gen_ai_provider_name", _PROVIDER),
        ("gen_ai_request_model", one.endpoint),
        ("gen_ai_response_model", one.model or one.endpoint),
    )


def _of_redoubt(counted: Counted) -> Iterator[str]:
    parts = _gathered(counted.series, _own_labels)
    yield from _head("redoubt_requests_total", "counter", "Requests that ended, by how.")
    for labels, one in parts.items():
        for result, times in sorted(one.results.items()):
            yield _sample("redoubt_requests_total", (*labels, ("result", result)), times)
    yield from _head("redoubt_tokens_total", "counter", "Tokens; cached ones are among the prompt's.")
    for labels, one in parts.items():
        for kind, value in (
            ("prompt", one.prompt.total), ("completion", one.generation.total), ("cached", one.cached),
            ("reasoning", one.reasoning),
        ):  # fmt: skip
            yield _sample("redoubt_tokens_total", (*labels, ("kind", kind)), value)
    for name, words, field in (
        ("redoubt_retries_total", "Times that a request was sent to a further replica.", "retries"),
        ("redoubt_gpu_seconds_total", "Time of GPUs, divided among what ran at once.", "gpu_s"),
    ):
        yield from _head(name, "counter", words)
        yield from (_sample(name, labels, getattr(one, field)) for labels, one in parts.items())
    yield from _head("redoubt_refusals_total", "counter", "Requests that were refused before they were let in.")
    for code, times in sorted(counted.refusals.items()):
        yield _sample("redoubt_refusals_total", (("code", code),), times)
    for name, value in sorted(counted.gauges.items()):
        yield from _head(name, "gauge", "Of this node's gateway, now.")
        yield _sample(name, (), value)


def _own_labels(one: Series) -> Labels:
    return ("endpoint", one.endpoint), ("project", one.project), ("zone", one.zone)


def _gathered(series: Iterable[Series], labels_of: LabelsOf) -> dict[Labels, Series]:
    """Return the series added up by the labels that are asked for, in order."""
    found: dict[Labels, Series] = {}
    for one in series:
        labels = labels_of(one)
        if labels not in found:
            found[labels] = one.empty()
        found[labels].merge(one)
    return dict(sorted(found.items()))


def _gauge(name: str, words: str, values: dict[str, int]) -> Iterator[str]:
    yield from _head(name, "gauge", words)
    yield from (_sample(name, (("model_name", endpoint),), value) for endpoint, value in sorted(values.items()))


def _histograms(
    name: str, words: str, field: str, bounds: tuple[float, ...], models: dict[Labels, Series]
) -> Iterator[str]:
    yield from _head(name, "histogram", words)
    for labels, one in models.items():
        yield from _histogram(name, labels, getattr(one, field), bounds)


def _histogram(name: str, labels: Labels, histogram: Histogram, bounds: tuple[float, ...]) -> Iterator[str]:
    """Tell a histogram with fewer bounds than were counted; each of `bounds` is one that was."""
    counted = SECONDS if len(histogram.counts) == len(SECONDS) + 1 else TOKENS
    passed, up_to = 0, {}
    for bound, times in zip(counted, histogram.counts, strict=False):
        passed += times
        up_to[bound] = passed
    for bound in bounds:
        yield _sample(f"{name}_bucket", (*labels, ("le", f"{bound:g}")), up_to[bound])
    whole = sum(histogram.counts)
    yield _sample(f"{name}_bucket", (*labels, ("le", "+Inf")), whole)
    yield _sample(f"{name}_sum", labels, histogram.total)
    yield _sample(f"{name}_count", labels, whole)


def _head(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Labels, value: float) -> str:
    told = ",".join(f'{label}="{_escaped(word)}"' for label, word in labels)
    return f"{name}{{{told}}} {value:.10g}" if told else f"{name} {value:.10g}"


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
