"""What is counted of each request, and how Prometheus reads it of all workers together."""

import asyncio
import re
from math import log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.meter import gaps, metrics
from controlplane.gateway.meter.exposition import render
from controlplane.gateway.meter.listener import MetricsConnection
from controlplane.gateway.meter.metrics import MOST_SERIES, Counted, Metrics, merged
from controlplane.gateway.meter.shared_time import SharedTime
from controlplane.gateway.meter.slots import take_slot
from controlplane.gateway.records import Outcome
from tests.gateway.stage import ASK, STREAMED, Call, Gateway, ScriptedReplica, Stage

SAMPLE = re.compile(r'^([a-z0-9_:]+)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')


def outcome(**told: Any) -> Outcome:
    facts: dict[str, Any] = {
        "project": "blue",
        "endpoint": "chat",
        "surface": "chat",
        "tokens_in": 100,
        "tokens_out": 7,
        "duration_us": 2_000_000,
    }
    return Outcome(
        at_us=1, bytes_out=1, code="", key="key_a", replica="r", request="req", result="answered",
        status=200, **(facts | told),
    )  # fmt: skip


def samples(page: bytes) -> dict[str, float]:
    """Read a page as strictly as a scraper does: every line is a comment or one sample, none comes twice."""
    found: dict[str, float] = {}
    for line in page.decode().splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample is not None, line
        name, labels, value = sample.groups()
        assert f"{name}{{{labels or ''}}}" not in found
        found[f"{name}{{{labels or ''}}}"] = float(value)
    return found


def counted(*outcomes: Outcome) -> Counted:
    made = Metrics()
    for one in outcomes:
        made.ended(one, None)
    return made.counted()


def test_tokens_and_times_are_told_under_the_names_of_vllm_and_of_opentelemetry():
    found = samples(render(counted(outcome(finish="stop", tokens_cached=64, queue_us=10, ttft_us=30_000), outcome())))

    chat = '{model_name="chat"}'
    assert found[f"vllm:prompt_tokens_total{chat}"] == 200
    assert found[f"vllm:generation_tokens_total{chat}"] == 14
    assert found[f"vllm:prefix_cache_hits_total{chat}"] == 64
    assert found['vllm:request_success_total{model_name="chat",finished_reason="stop"}'] == 1
    first = "vllm:time_to_first_token_seconds_bucket"
    assert found[f'{first}{{model_name="chat",le="0.02"}}'] == 0
    assert found[f'{first}{{model_name="chat",le="0.04"}}'] == found[f'{first}{{model_name="chat",le="+Inf"}}'] == 1
    operation = 'gen_ai_operation_name="chat",gen_ai_provider_name="redoubt",gen_ai_request_model="chat"'
    labels = f'{operation},gen_ai_response_model="chat"'
    assert found[f"gen_ai_server_request_duration_seconds_sum{{{labels}}}"] == 4
    assert found[f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}}'] == 200
    assert found['redoubt_tokens_total{endpoint="chat",project="blue",zone="",kind="cached"}'] == 64


def test_the_number_of_series_has_an_end_and_nothing_is_lost_beyond_it():
    many = MOST_SERIES + 50
    made = counted(*(outcome(project=f"p{number}") for number in range(many)))

    assert len(made.series) <= MOST_SERIES + 1
    assert samples(render(made))['vllm:prompt_tokens_total{model_name="chat"}'] == 100 * many
    assert any(series.project == "other" for series in made.series)


def test_what_is_there_no_more_makes_room_for_what_came():
    made = Metrics(counted(*(outcome(project=f"gone{number}") for number in range(MOST_SERIES))))

    made.keep({"chat"}, {"blue"})
    made.ended(outcome(), None)

    assert [(series.endpoint, series.project) for series in made.counted().series] == [("chat", "blue")]


def test_a_word_of_an_engine_makes_no_series():
    found = samples(render(counted(outcome(finish="stop"), outcome(finish="weird_one"))))

    reasons = {name.rpartition("=")[2] for name in found if name.startswith("vllm:request_success_total")}
    assert reasons == {'"other"}', '"stop"}'}


def test_a_name_cannot_break_out_of_its_label():
    page = render(counted(outcome(endpoint='a"} 1\nevil{x="\\')))

    assert all("evil" not in name.partition("{")[0] for name in samples(page))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 10**8)), max_size=20))
def test_workers_together_tell_the_sum_of_each(those):
    parts: list[list[Outcome]] = [[], [], []]
    for number, (project, tokens, us) in enumerate(those):
        parts[number % 3].append(outcome(project=project, tokens_in=tokens, duration_us=us))
    every = [one for part in parts for one in part]

    together = samples(render(merged([counted(*part) for part in parts])))

    assert together == pytest.approx(samples(render(counted(*every))))


def test_a_worker_goes_on_where_the_last_one_at_its_place_was(tmp_path):
    first = take_slot(tmp_path)
    second = take_slot(tmp_path)
    first.write(counted(outcome()))
    first.close()

    again = take_slot(tmp_path)
    made = Metrics(again.before())
    made.ended(outcome(), None)

    assert samples(render(merged(second.all(Counted()))))['vllm:prompt_tokens_total{model_name="chat"}'] == 100
    assert samples(render(merged(again.all(made.counted()))))['vllm:prompt_tokens_total{model_name="chat"}'] == 200


def test_to_be_read_changes_nothing_of_what_was_counted(tmp_path):
    here, there = take_slot(tmp_path), take_slot(tmp_path)
    there.write(counted(outcome()))
    made = Metrics()
    made.ended(outcome(), None)

    pages = [render(merged(here.all(made.counted()))) for _ in range(3)]

    assert len(set(pages)) == 1
    assert samples(render(made.counted()))['vllm:prompt_tokens_total{model_name="chat"}'] == 100


def test_a_dead_worker_s_counts_stay_and_its_gauges_do_not(tmp_path):
    one, two = take_slot(tmp_path), take_slot(tmp_path)
    told = counted(outcome())
    told.running = {"chat": 3}
    one.write(told)
    alive = samples(render(merged(two.all(Counted()))))
    one.close()

    dead = samples(render(merged(two.all(Counted()))))

    running, tokens = 'vllm:num_requests_running{model_name="chat"}', 'vllm:prompt_tokens_total{model_name="chat"}'
    assert (alive[running], alive[tokens]) == (3, 100)
    assert (dead.get(running), dead[tokens]) == (None, 100)


def test_what_a_place_holds_that_cannot_be_read_starts_it_anew(tmp_path):
    take_slot(tmp_path).close()
    (tmp_path / "metrics" / "0.json").write_bytes(b'{"series": 3')

    slot = take_slot(tmp_path)

    assert slot.before() == Counted()
    assert merged(slot.all(counted(outcome()))).series


@given(st.lists(st.floats(2e-6, 1000), min_size=1, max_size=200), st.sampled_from([50, 99]))
def test_percentiles_of_gaps_are_right_to_a_tenth(seconds, percent):
    found: gaps.Gaps = {}
    for gap in seconds:
        bucket = int(log2(gap * 1e6) * gaps.A_OCTAVE)
        found[bucket] = found.get(bucket, 0) + 1

    right = sorted(seconds)[max(0, -(-len(seconds) * percent // 100) - 1)] * 1e6

    assert gaps.percentile_us(found, percent) == pytest.approx(right, rel=0.1, abs=1)


def test_a_replica_s_time_is_divided_among_what_runs_there_and_no_second_is_lost():
    shared = SharedTime()
    one = shared.enter(0.0)
    two = shared.enter(4.0)
    own_two = shared.leave(6.0, two)
    own_one = shared.leave(9.0, one)

    assert (own_one, own_two) == (4.0 + 1.0 + 3.0, 1.0)
    later = shared.enter(100.0)
    assert shared.leave(101.0, later) == 1.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 50)), min_size=1, max_size=12))
def test_the_parts_of_all_requests_are_the_time_in_which_any_ran(those):
    begin, end = [(at, 1, n) for n, (at, _) in enumerate(those)], [(at + d, 0, n) for n, (at, d) in enumerate(those)]
    moments = sorted([*begin, *end], key=lambda moment: (moment[0], -moment[1]))
    shared, entered, own, busy, before = SharedTime(), {}, 0.0, 0.0, 0.0
    for at, begins, number in moments:
        busy += (at - before) if shared.running else 0.0
        before = at
        if begins:
            entered[number] = shared.enter(at)
        else:
            own += shared.leave(at, entered[number])

    assert own == pytest.approx(busy)


# --- at a gateway


@pytest.fixture
async def replica(stage: Stage) -> ScriptedReplica:
    return await stage.replica()


async def slow_stream(call: Call) -> None:
    await call.begin_stream()
    for word in ("one", "two", "three", "four"):
        await asyncio.sleep(0.03)
        await call.event(word)
    await call.end_stream()


async def test_a_stream_tells_its_first_token_and_the_time_between_two(stage: Stage, replica: ScriptedReplica):
    gateway: Gateway = await stage.gateway(replica)
    replica.script = slow_stream

    await gateway.chat(STREAMED)

    (ended,) = gateway.journal.outcomes
    first, half, nearly_all = ended.ttft_us or 0, ended.itl_p50_us or 0, ended.itl_p99_us or 0
    assert 30_000 <= first < ended.duration_us
    assert 25_000 <= half <= nearly_all <= ended.duration_us
    assert (ended.retries, ended.context_tokens) == (0, 512)


async def test_a_whole_answer_has_no_first_token_and_no_gaps(stage: Stage, replica: ScriptedReplica):
    gateway = await stage.gateway(replica)

    await gateway.chat(ASK)

    (ended,) = gateway.journal.outcomes
    assert (ended.ttft_us, ended.itl_p50_us, ended.itl_p99_us) == (None, None, None)
    assert ended.queue_us < ended.duration_us


async def test_a_request_that_a_second_replica_answers_was_tried_again_once(stage: Stage, replica: ScriptedReplica):
    async def die(call: Call) -> None:
        call.die()

    dying = [await stage.replica(die, name="replica_b")]
    gateway = await stage.gateway(replica, *dying)

    answers = [await gateway.chat(ASK) for _ in range(2)]

    assert {answer.status_code for answer in answers} == {200}
    assert max(one.retries for one in gateway.journal.outcomes) >= 1
    assert {one.replica for one in gateway.journal.outcomes} == {"replica_a"}


async def test_gpu_time_is_the_request_s_part_of_the_replica_s_gpus(stage: Stage, replica: ScriptedReplica):
    gateway = await stage.gateway(replica)
    made = gateway.hub.directory(gateway.hub.clock.now())
    object.__setattr__(made.endpoints["chat"], "gpus", 4)
    replica.script = slow_stream

    await gateway.chat(STREAMED)

    (ended,) = gateway.journal.outcomes
    assert 4 * 120_000 <= ended.gpu_us <= 4 * ended.duration_us


async def test_refusals_are_counted_by_their_reason(stage: Stage, replica: ScriptedReplica):
    gateway = await stage.gateway(replica)

    await gateway.chat(headers={"authorization": "Bearer rdk_wrong"})
    await gateway.chat(ASK.replace(b'"chat"', b'"nowhere"'))

    found = samples(render(gateway.hub.metrics.counted()))
    assert found['redoubt_refusals_total{code="invalid_api_key"}'] == 1
    assert found['redoubt_refusals_total{code="model_not_found"}'] == 1


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"200"),
        (b"HEAD /metrics HTTP/1.1", b"200"),
        (b"GET /metrics?x=1 HTTP/1.1", b"200"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"GET / HTTP/1.1", b"404"),
        (b"nonsense", b"400"),
    ],
)
async def test_the_listener_answers_one_question(request_line: bytes, status: bytes):
    page = render(counted(outcome()))

    async def told() -> bytes:
        await asyncio.sleep(0)
        return page

    server = await asyncio.get_running_loop().create_server(lambda: MetricsConnection(told), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])

    writer.write(request_line + b"\r\nHost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    server.close()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert body == (page if request_line.startswith(b"GET /metrics") else b"")


def test_bounds_of_every_histogram_are_among_those_that_are_counted():
    assert list(metrics.SECONDS) == sorted(set(metrics.SECONDS))
    render(counted(outcome()))
