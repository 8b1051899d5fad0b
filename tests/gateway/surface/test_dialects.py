"""What each dialect lets through, refuses, and hands to an engine."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.errors import BadRequest, ReplicaLost
from controlplane.gateway.routes import SURFACES
from controlplane.gateway.surface.reading import ENGINE_ONLY
from controlplane.gateway.surface.surface import Orders

HELLO = [{"role": "user", "content": "hello"}]
LEAST: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/responses/input_tokens": {"input": HELLO},
    "/v1/messages": {"messages": HELLO},
    "/v1/messages/count_tokens": {"messages": HELLO},
    "/v1/embeddings": {"input": ["hello", "there"]},
    "/v1/rerank": {"query": "hello", "documents": ["there", {"text": "here"}]},
    "/v1/score": {"text_1": "hello", "text_2": ["there"]},
    "/tokenize": {"prompt": "hello"},
}
COMPLETES = {
    "/v1/chat/completions": "max_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
    "/v1/messages": "max_tokens",
}


def read(path: str, **fields: object):
    return SURFACES[path.encode()].read(encoded(path, **fields))


def encoded(path: str, **fields: object) -> bytes:
    return json.dumps({"model": "m", **LEAST[path], **fields}).encode()


def sent(path: str, orders: Orders, **fields: object) -> dict:
    body = encoded(path, **fields)
    return json.loads(SURFACES[path.encode()].read(body).to_engine(body, orders))


def test_every_route_has_its_least_body_here():
    assert {path.encode() for path in LEAST} == set(SURFACES) - {b"/v1/explain-route"}


@pytest.mark.parametrize("path", LEAST)
def test_no_route_lets_a_client_speak_to_the_engine_or_misspell(path: str):
    for name in (*ENGINE_ONLY, "temprature"):
        with pytest.raises(BadRequest) as refused:
            read(path, **{name: 1})

        assert refused.value.param == name
        assert refused.value.code == ("field_not_allowed" if name in ENGINE_ONLY else "unknown_field")


@pytest.mark.parametrize("path", LEAST)
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"model":"m"}', b'{"model":"\xff"}', b"[" * 100_000])
def test_no_route_takes_what_is_no_request_of_its_own(path: str, body: bytes):
    with pytest.raises(BadRequest):
        SURFACES[path.encode()].read(body)


@pytest.mark.parametrize(("path", "bound"), COMPLETES.items())
def test_what_completes_is_bounded_by_its_hold(path: str, bound: str):
    assert [sent(path, Orders(20), **{bound: asked})[bound] for asked in (None, 7, 70)] == [20, 7, 20]
    assert read(path, **{bound: 7}).completion_tokens == 7
    with pytest.raises(BadRequest):
        read(path, **{bound: 0})


@pytest.mark.parametrize("path", set(LEAST) - set(COMPLETES))
def test_what_completes_nothing_holds_no_completion(path: str):
    ask = read(path)

    assert (ask.completion_tokens, ask.streamed, ask.choices) == (0, False, 1)


@pytest.mark.parametrize("path", COMPLETES)
def test_what_completes_reuses_a_prompt_where_that_is_allowed(path: str):
    assert sent(path, Orders(20, reuse=True))["cache_prompt"] is True
    assert "cache_prompt" not in sent(path, Orders(20))
    assert sent(path, Orders(20, adapter="vllm", salt="s"))["cache_salt"] == "s"


@pytest.mark.parametrize("path", LEAST)
def test_the_prompt_is_all_that_the_engine_reads(path: str):
    prompt = b" ".join(read(path).prompt)

    assert b"hello" in prompt
    assert all(word.encode() in prompt for word in ("there", "here") if word in json.dumps(LEAST[path]))


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2), (["a"] * 5, 5)],
)
def test_every_prompt_of_a_completion_is_a_choice(prompt: object, choices: int):
    assert read("/v1/completions", prompt=prompt).choices == choices
    assert read("/v1/completions", prompt=prompt, n=2).choices == 2 * choices


def test_a_completion_that_would_cost_more_than_is_told_is_refused():
    for fields in ({"n": 2}, {"prompt": ["a", "b"]}):
        with pytest.raises(BadRequest, match="one completion"):
            read("/v1/completions", **fields).require_fit("llama_cpp")
        read("/v1/completions", **fields).require_fit("vllm")
    with pytest.raises(BadRequest):
        read("/v1/completions", best_of=3)


@pytest.mark.parametrize("stored", [None, False])
def test_a_response_is_never_stored(stored: bool | None):
    assert sent("/v1/responses", Orders(20), store=stored)["store"] is False


@pytest.mark.parametrize(
    ("name", "value"),
    [("store", True), ("background", True), ("previous_response_id", "resp_1"), ("conversation", {"id": "c"})],
)
def test_a_response_that_needs_something_kept_is_refused(name: str, value: object):
    with pytest.raises(BadRequest, match="no answer is ever kept") as refused:
        read("/v1/responses", **{name: value})

    assert refused.value.param == name


@pytest.mark.parametrize(
    ("path", "own", "others"),
    [
        ("/v1/responses", {"type": "function", "name": "f"}, {"type": "mcp", "server_url": "x"}),
        ("/v1/responses/input_tokens", {"type": "custom"}, {"type": "web_search"}),
        ("/v1/messages", {"name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "w"}),
        ("/v1/messages/count_tokens", {"type": "custom", "name": "f"}, {"type": "code_execution_20250522"}),
    ],
)
def test_tools_that_a_server_would_run_are_refused(path: str, own: dict, others: dict):
    assert b"".join(read(path, tools=[own]).prompt).startswith(json.dumps([own]).encode())
    for tools in ([own, others], "all", [1]):
        with pytest.raises(BadRequest) as refused:
            read(path, tools=tools)
        assert refused.value.param == "tools"


def test_engines_are_asked_to_rank_in_one_way():
    asked = {"model": "m", "query": "hello", "documents": ["there", "here"], "top_n": 1}

    assert sent("/v1/rerank", Orders(0), top_n=1, return_documents=True) == asked
    assert sent("/v1/score", Orders(0)) == {"model": "m", "query": "hello", "documents": ["there"]}


def test_a_ranking_is_told_in_the_words_of_the_client():
    results = [{"index": 1, "relevance_score": 2.5}, {"index": 0, "relevance_score": -1.0}]
    answer = json.dumps({"model": "m", "usage": {"prompt_tokens": 9}, "results": results}).encode()
    score = {"object": "score", "score": 2.5, "index": 1}

    told = json.loads(read("/v1/rerank", return_documents=True).to_client(answer))
    scored = json.loads(read("/v1/score", text_2=["a", "b"]).to_client(answer))

    assert [result["document"] for result in told["results"]] == [{"text": "here"}, {"text": "there"}]
    assert json.loads(read("/v1/rerank").to_client(answer))["results"] == results
    assert (scored["data"][1], scored["usage"]) == (score, {"prompt_tokens": 9})


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"results":[{"index":2,"relevance_score":1}]}', b'{"results":[1]}'])
def test_a_ranking_that_makes_no_sense_is_no_answer(answer: bytes):
    with pytest.raises(ReplicaLost):
        read("/v1/rerank").to_client(answer)


def test_tokens_are_asked_for_in_the_engines_words_and_counted():
    asked = {"model": "m", "prompt": "hello", "add_special_tokens": False}

    assert sent("/tokenize", Orders(0, adapter="vllm"), add_special_tokens=False) == asked
    assert sent("/tokenize", Orders(0))["content"] == "hello"
    assert json.loads(read("/tokenize").to_client(b'{"tokens":[5,6]}')) == {"tokens": [5, 6], "count": 2}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
PROMPTS = {name for least in LEAST.values() for name in least}
OTHERS = {"stream", "stream_options", "n", "stop", "tools", "system", "store", "temperature", "seed", "metadata"}
FIELDS = st.sampled_from(sorted(PROMPTS | OTHERS | set(COMPLETES.values())))


@given(st.sampled_from(sorted(LEAST)), st.dictionaries(FIELDS, ANYTHING, max_size=4), st.integers(1, 99))
def test_what_comes_in_is_refused_or_goes_out_whole_and_bounded(path: str, fields: dict, most: int):
    try:
        ask = read(path, **fields)
    except BadRequest:
        return

    out = sent(path, Orders(most), **fields)

    assert isinstance(ask.prompt, list)
    if path in COMPLETES:
        asked = {**LEAST[path], **fields}
        changed = {name for name in asked if name not in out or out[name] != asked[name]}
        assert changed <= {COMPLETES[path], "stream_options", "store"}
        assert out[COMPLETES[path]] <= most
