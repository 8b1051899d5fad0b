"""What the gateway promises of vLLM, asked of a real one: `make test-vllm` runs this in the order of the file.

`served` is given by `tests/vllm/__main__.py`; the file's name keeps it out of `make test`.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.gateway.drivers import DRIVERS, Anthropic, Driver, OpenAiChat, OpenAiResponses
from tests.vllm.stage import BOTH, KEYS, ONE, SHORT, SHORT_TOKENS, Engine, Served, wait_until

PROMPT_PATHS = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 2},
    "/v1/completions": lambda text: {"prompt": text, "max_tokens": 2},
    "/v1/responses": lambda text: {"input": text, "max_output_tokens": 2},
    "/v1/messages": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 2},
}
PARAMETERS = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
BLOCK_TOKENS = 128  # of vLLM's cache on a CPU: a prefix is kept by whole blocks
HITS = "vllm:prefix_cache_hits_total"
RUNNING = "vllm:num_requests_running"


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, served: Served) -> Iterator[Driver]:
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        yield request.param(served.url, KEYS["blue"], http)


@pytest.fixture
def one(served: Served) -> Engine:
    return served.engines[0]


def test_it_lists_the_models_and_finds_one(driver: Driver):
    assert driver.models() == [BOTH, ONE, SHORT]
    assert driver.model(ONE) == ONE


def test_it_gets_an_answer_with_its_usage(driver: Driver):
    said = driver.say("the river and the stone", tokens=8)

    assert said.text.strip()
    assert (said.tokens_out, said.finish) == (8, "length")
    assert said.tokens_in >= 5


def test_a_stream_says_what_a_whole_answer_says(driver: Driver):
    said, streamed = driver.say("where do herons nest", tokens=12), driver.stream("where do herons nest", tokens=12)

    assert streamed == said


@pytest.mark.parametrize("field", ["cache_salt", "priority", "kv_transfer_params", "vllm_xargs", "request_id"])
def test_what_only_the_gateway_may_say_is_refused_from_a_client(driver: Driver, field: str):
    with pytest.raises(driver.errors["request"], match=f"{field} belongs to the inference server"):
        driver.say("hello", 1, **{field: "x"})


def test_every_field_of_the_allow_list_is_taken_by_the_engine(served: Served):
    chat = {
        "messages": [{"role": "system", "content": "moon"}, {"role": "user", "content": [_text("river")]}],
        "max_completion_tokens": 3, "n": 2, "temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.1,
        "presence_penalty": 0.1, "seed": 7, "user": "u", "logit_bias": {"5": -1}, "stop": ["zzz"], "top_k": 5,
        "min_p": 0.01, "min_tokens": 1, "repetition_penalty": 1.1, "ignore_eos": True, "stop_token_ids": [2],
        "logprobs": True, "top_logprobs": 2, "metadata": {"a": "b"}, "prompt_cache_key": "k", "store": False,
        "safety_identifier": "s", "response_format": {"type": "text"}, "add_generation_prompt": True,
        "chat_template_kwargs": {"enable_thinking": False}, "include_reasoning": True, "reasoning_effort": "low",
    }  # fmt: skip
    words = {
        "prompt": "river stone", "max_tokens": 3, "echo": True, "logprobs": 1, "best_of": 1,
        "add_special_tokens": True, "structured_outputs": {"choice": ["moon", "sun"]},
    }  # fmt: skip

    told = served.ask("/v1/chat/completions", {"model": BOTH, **chat})
    said = served.ask("/v1/completions", {"model": BOTH, **words})

    assert (told.status_code, said.status_code) == (200, 200), told.text + said.text
    assert len(told.json()["choices"]) == 2
    assert "moon" in said.json()["choices"][0]["text"] or "sun" in said.json()["choices"][0]["text"]


def test_definitions_of_tools_are_taken_in_every_dialect(served: Served):
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        chat = OpenAiChat(served.url, KEYS["blue"], http).say("river", 3, tools=[_tool()])
        response = OpenAiResponses(served.url, KEYS["blue"], http).say("river", 3, tools=[{"type": "function", **_f()}])
        message = Anthropic(served.url, KEYS["blue"], http).say(
            "river", 3, tools=[{"name": "look", "input_schema": PARAMETERS}]
        )

    assert [said.tokens_out for said in (chat, response, message)] == [3, 3, 3]


def test_a_text_becomes_tokens(served: Served):
    told = served.ask("/tokenize", {"model": BOTH, "prompt": "river stone moon"}).json()

    assert told["count"] == len(told["tokens"]) == 3


def test_counted_tokens_are_those_that_are_read(served: Served):
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        messages = Anthropic(served.url, KEYS["blue"], http)
        asked: list[Any] = [{"role": "user", "content": "the river"}]  # one kind of the client's union of messages

        counted = messages.client.messages.count_tokens(model=BOTH, messages=asked).input_tokens

        assert counted == messages.say("the river", 1).tokens_in


def test_what_is_held_of_a_budget_covers_what_the_engine_reads(served: Served, one: Engine):
    """The template writes more for an effort, and the engine's own count does not see it."""
    ask = {"model": ONE, "messages": [{"role": "user", "content": "river"}], "max_tokens": 2}
    told = [served.ask("/v1/chat/completions", {**ask, **more}) for more in ({}, {"reasoning_effort": "high"})]
    counted = httpx.post(f"{one.url}/tokenize", json={**ask, "reasoning_effort": "high"}, trust_env=False).json()

    read = [served.record(answer)["tokens_in"] for answer in told]
    held = [dict(served.record(answer, "intent")["held"])["budget_in"] for answer in told]
    assert read[0] == counted["count"] < read[1]
    assert all(most >= used for most, used in zip(held, read, strict=True))


def test_where_the_engine_has_no_route_the_client_is_told_so(served: Served):
    refused = served.ask("/v1/responses/input_tokens", {"model": BOTH, "input": "river"})

    assert refused.status_code == 404
    assert refused.headers["x-redoubt-reason"] == "surface_not_served"


def test_a_prompt_that_does_not_fit_is_a_bad_request(driver: Driver):
    with pytest.raises(driver.errors["request"], match="context"):
        driver.say("river " * 2000, tokens=1)


def test_the_bound_that_the_gateway_sets_is_kept_and_told(served: Served):
    ask = {"model": SHORT, "messages": [{"role": "user", "content": "on and on"}]}

    answer = served.ask("/v1/chat/completions", ask)

    told = answer.json()
    assert answer.headers["x-redoubt-max-tokens"] == str(SHORT_TOKENS)
    assert (told["usage"]["completion_tokens"], told["choices"][0]["finish_reason"]) == (SHORT_TOKENS, "length")


@pytest.mark.parametrize("path", PROMPT_PATHS)
def test_cached_tokens_are_told_in_the_header_and_in_the_usage_record(served: Served, path: str):
    ask = {"model": ONE, **PROMPT_PATHS[path](_long(f"told {path}"))}

    cold, warm = served.ask(path, ask), served.ask(path, ask)

    assert _cached(cold) == 0
    assert _cached(warm) >= BLOCK_TOKENS
    record = served.record(warm)
    assert record["tokens_cached"] == _cached(warm)
    assert record["tokens_in"] == served.record(cold)["tokens_in"] > _cached(warm)
    assert record["tokens_out"] == 2


def test_the_measure_of_isolation_sees_a_prefix_that_is_shared(served: Served, one: Engine):
    """Straight to the engine and without a salt, as a client could if the gateway did not stand between."""
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        text, before = _long("shared"), one.figure(HITS)
        for _ in range(2):
            OpenAiChat(one.url, "none", http).say(text, 1)

    assert one.figure(HITS) - before >= BLOCK_TOKENS


@pytest.mark.parametrize("path", PROMPT_PATHS)
def test_a_prefix_of_one_tenant_never_warms_another_and_warms_its_own(served: Served, one: Engine, path: str):
    ask = {"model": ONE, **PROMPT_PATHS[path](_long(f"apart {path}"))}
    before = one.figure(HITS)

    first, other = served.ask(path, ask, "blue"), served.ask(path, ask, "red")
    between = one.figure(HITS)
    again = [_cached(served.ask(path, ask, tenant)) for tenant in ("blue", "red")]

    assert (_cached(first), _cached(other), between - before) == (0, 0, 0)
    assert min(again) >= BLOCK_TOKENS
    assert one.figure(HITS) - between == sum(again)


def test_a_stream_that_its_client_leaves_frees_the_engine(served: Served, one: Engine):
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        client = OpenAiChat(served.url, KEYS["blue"], http).client
        stream = client.chat.completions.create(
            model=ONE, messages=[{"role": "user", "content": "on and on"}], max_tokens=900, stream=True
        )
        next(iter(stream))
        assert one.figure(RUNNING) == 1
        made = one.figure("vllm:generation_tokens_total")
        stream.close()

    wait_until(lambda: one.figure(RUNNING) == 0, 15.0)
    assert one.figure("vllm:generation_tokens_total") - made < 850


def test_an_engine_that_dies_under_load_loses_no_whole_answer(served: Served):
    survivor, victim = served.engines
    asks = [
        {"model": BOTH, "messages": [{"role": "user", "content": f"river {number}"}], "max_tokens": 48}
        for number in range(40)
    ]
    killer = threading.Thread(target=_kill_when_busy, args=(victim,))
    killer.start()
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda ask: served.ask("/v1/chat/completions", ask), asks))
    killer.join()

    with pytest.raises(httpx.TransportError):
        victim.figure(RUNNING)
    assert [answer.status_code for answer in answers] == [200] * len(asks)
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {48}
    records = [served.record(answer) for answer in answers]
    assert {record["tokens_out"] for record in records} == {48}
    assert sum(record.get("retries", 0) for record in records) > 0
    assert survivor.figure(RUNNING) == 0


def _kill_when_busy(engine: Engine) -> None:
    wait_until(lambda: engine.figure(RUNNING) >= 2, 60.0)
    engine.kill()


def _long(words: str) -> str:
    """Return a prompt of more than a block that begins with its own words, so that no other test has warmed it."""
    return f"{words} " + "river stone moon harbour " * 60


def _cached(answer: Any) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-redoubt-cached-tokens"])


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _f() -> dict[str, Any]:
    return {"name": "look", "description": "Look at a place.", "parameters": PARAMETERS}


def _tool() -> dict[str, Any]:
    return {"type": "function", "function": _f()}
