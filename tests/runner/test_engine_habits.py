"""Habits of llama.cpp that the gateway relies on."""

import pytest

from tests.runner.runs import running

CHAT = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"max_t\\u006fkens":2}'
RESPONSE = b'{"model":"tiny","input":"hi","max_output_tokens":9,"max_output_tokens":2}'


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", CHAT, "completion_tokens"),
        ("/v1/completions", b'{"model":"tiny","prompt":"hi","max_tokens":9,"max_tokens":2}', "completion_tokens"),
        ("/v1/messages", CHAT, "output_tokens"),
        (
            "/v1/responses",
            b'{"model":"tiny","input":"hi","max_output_tokens":9,"max_output_tokens":2}',
            "output_tokens",
        ),
    ],
)
def test_of_two_fields_of_one_name_the_last_one_counts(engine, path: str, body: bytes, name: str):
    answer = engine.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.json()["usage"][name] == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_no_prompt_is_reused_unless_the_request_says_so(engine, path: str):
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "the same words again"}], "max_tokens": 1}

    usages = [engine.post(path, json=ask).json()["usage"] for _ in range(3)]

    cached = [u.get("cache_read_input_tokens", u.get("prompt_tokens_details", {}).get("cached_tokens")) for u in usages]
    assert cached == [0, 0, 0]


def test_a_request_that_says_so_reuses_its_prompt(engine):
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "once more the same"}], "max_tokens": 1}

    asks = [engine.post("/v1/chat/completions", json=ask | {"cache_prompt": True}) for _ in range(3)]

    assert asks[-1].json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


@pytest.fixture
def engine(site, api):
    with running(site, api) as run, run.until_ready().gateway() as gateway:
        yield gateway
