import json

import msgspec
import pytest

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.surface.chat import Chat, ChatAsk
from controlplane.gateway.surface.reading import ENGINE_ONLY

PLAIN = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
EVERYTHING = PLAIN | {
    "audio": {"voice": "a", "format": "wav"},
    "frequency_penalty": 0.5,
    "function_call": "auto",
    "functions": [],
    "logit_bias": {"1": -100},
    "logprobs": True,
    "max_completion_tokens": 5,
    "max_tokens": 5,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 1,
    "prompt_cache_key": "k",
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "safety_identifier": "s",
    "seed": 7,
    "stop": ["a"],
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_logprobs": 3,
    "top_p": 0.9,
    "user": "u",
    "verbosity": "low",
    "add_generation_prompt": True,
    "chat_template_kwargs": {"enable_thinking": False},
    "continue_final_message": False,
    "ignore_eos": True,
    "include_reasoning": True,
    "min_p": 0.1,
    "min_tokens": 1,
    "repeat_penalty": 1.1,
    "repetition_penalty": 1.1,
    "stop_token_ids": [1],
    "structured_outputs": {"choice": ["a"]},
    "top_k": 40,
}


def test_every_field_of_the_allow_list_passes():
    ask = Chat().read(json.dumps(EVERYTHING).encode())

    assert (ask.model, ask.stream) == ("chat", True)
    assert {field.name for field in msgspec.structs.fields(ChatAsk)} == set(EVERYTHING)


def test_a_field_that_is_null_is_as_good_as_absent():
    optional = dict.fromkeys(set(EVERYTHING) - set(PLAIN))

    assert not Chat().read(json.dumps(PLAIN | optional).encode()).stream


@pytest.mark.parametrize("name", sorted(ENGINE_ONLY))
def test_a_field_of_the_engine_is_refused_as_such(name: str):
    with pytest.raises(BadRequest, match=f"{name} belongs to the inference server") as refused:
        Chat().read(json.dumps(PLAIN | {name: 1}).encode())

    assert (refused.value.param, refused.value.code) == (name, "field_not_allowed")


@pytest.mark.parametrize("name", ["temprature", "web_search_options", "service_tier", "", "a`b", "x" * 5000])
def test_an_unknown_field_is_refused_by_name(name: str):
    with pytest.raises(BadRequest) as refused:
        Chat().read(json.dumps(PLAIN | {name: 1}).encode())

    assert refused.value.code == "unknown_field"
    assert len(refused.value.detail) < 400


def test_a_wrong_type_names_the_field():
    for name, value in (("stream", "yes"), ("temperature", "hot"), ("n", 1.5), ("model", None)):
        with pytest.raises(BadRequest) as refused:
            Chat().read(json.dumps(PLAIN | {name: value}).encode())

        assert refused.value.param == name
