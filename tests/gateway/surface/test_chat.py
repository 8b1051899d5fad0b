"""What the engine gets of a chat completion."""

import json

import pytest

from controlplane.gateway.surface.chat import Chat
from controlplane.gateway.surface.surface import Orders

PLAIN = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


def sent(ask: dict, orders: Orders) -> dict:
    """Return the body as an engine reads it: of two fields of one name the last."""
    body = json.dumps(ask).encode()
    return json.loads(Chat().read(body).to_engine(body, orders))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {"max_tokens": 20}),
        ({"max_tokens": None}, {"max_tokens": 20}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 70}, {"max_tokens": 20}),
        ({"max_completion_tokens": 70}, {"max_completion_tokens": 20}),
        ({"max_completion_tokens": 7, "max_tokens": 70}, {"max_completion_tokens": 7, "max_tokens": 70}),
        ({"max_completion_tokens": 70, "max_tokens": 7}, {"max_completion_tokens": 20, "max_tokens": 7}),
    ],
)
def test_a_completion_is_bounded_by_what_is_held_for_it(asked: dict, expected: dict):
    assert sent(PLAIN | asked, Orders(20)) == PLAIN | expected


def test_a_body_that_needs_nothing_passes_as_the_bytes_it_came_in():
    body = b' {"max_tokens":5, "model":"chat","messages":[{}]}\n'

    assert Chat().read(body).to_engine(body, Orders(20)) is body


def test_an_engine_is_asked_for_the_usage_of_every_stream():
    for options in (None, {"include_usage": False}, {"include_usage": True}):
        asked = PLAIN | {"max_tokens": 5, "stream": True, "stream_options": options}

        assert sent(asked, Orders(20))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(PLAIN, Orders(20))


def test_prompts_of_tenants_are_kept_apart_in_the_words_of_the_engine():
    assert sent(PLAIN, Orders(20, salt="s", reuse=True)) == PLAIN | {"max_tokens": 20, "cache_prompt": True}
    assert sent(PLAIN, Orders(20, salt="s")) == PLAIN | {"max_tokens": 20}
    assert sent(PLAIN, Orders(20, salt='s"', adapter="vllm")) == PLAIN | {"max_tokens": 20, "cache_salt": 's"'}
