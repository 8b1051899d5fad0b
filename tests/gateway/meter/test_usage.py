"""What is read of an answer's usage: bytes as llama.cpp and vLLM send them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.spool import Outcome
from controlplane.gateway.meter.usage import Usage

CHAT = (
    b'{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":" home lake"}}],'
    b'"model":"m","usage":{"completion_tokens":4,"prompt_tokens":63,"total_tokens":67,'
    b'"prompt_tokens_details":{"cached_tokens":62}},"id":"c","timings":{"cache_n":62,"prompt_n":1}}'
)
VLLM = (
    b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop","stop_reason":null}],"usage":'
    b'{"prompt_tokens":9,"total_tokens":29,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":8},'
    b'"completion_tokens_details":{"reasoning_tokens":7}},"prompt_logprobs":null}'
)
RESPONSE = (
    b'{"model":"m","object":"response","output":[{"status":"completed","type":"message"}],"status":"completed",'
    b'"usage":{"input_tokens":57,"output_tokens":3,"total_tokens":60,"input_tokens_details":{"cached_tokens":2}}}'
)
MESSAGE = (
    b'{"type":"message","content":[{"type":"text","text":" home"}],"stop_reason":"max_tokens","stop_sequence":null,'
    b'"usage":{"cache_read_input_tokens":24,"input_tokens":39,"output_tokens":4}}'
)
EMBEDDING = b'{"model":"m","object":"list","usage":{"prompt_tokens":7,"total_tokens":7},"data":[{"embedding":[0.5]}]}'


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (CHAT, (63, 4, 62, None, "length")),
        (VLLM, (9, 20, 8, 7, "stop")),
        (RESPONSE, (57, 3, 2, None, "stop")),
        (MESSAGE, (63, 4, 24, None, "max_tokens")),
        (EMBEDDING, (7, 0, None, None, "")),
        (b'{"input_tokens":63}', (None, None, None, None, "")),
        (b"", (None, None, None, None, "")),
    ],
)
def test_a_whole_answer_tells_its_tokens_in_every_dialect(body: bytes, told: tuple):
    usage = Usage()
    usage.read_answer(body)

    assert read(usage) == told


CHAT_STREAM = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" home"}}],"usage":null}\n\n',
    b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}]}\n\n',
    (
        b'data: {"choices":[],"usage":{"completion_tokens":3,"prompt_tokens":63,"prompt_tokens_details":'
        b'{"cached_tokens":2}}}'
        b"\n\n"
    ),
    b"data: [DONE]\n\n",
)
RESPONSE_STREAM = (
    b'event: response.created\ndata: {"response":{"usage":{"output_tokens":0},"status":"in_progress"}}\n\n',
    (
        b'event: response.incomplete\ndata: {"type":"response.incomplete","response":'
        b'{"output":[{"status":"completed"}],'
        b'"status":"incomplete","usage":{"input_tokens":57,"output_tokens":3,"input_tokens_details":{"cached_tokens":56},'
        b'"output_tokens_details":{"reasoning_tokens":1}}}}\n\n'
    ),
)
MESSAGE_STREAM = (
    (
        b'event: message_start\ndata: {"type":"message_start","message":{"content":[],"usage":'
        b'{"cache_read_input_tokens":62,"input_tokens":1,"output_tokens":0}}}\n\n'
    ),
    b'event: content_block_delta\ndata: {"delta":{"text":"\\"usage\\":{\\"output_tokens\\":9}"}}\n\n',
    b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
STREAMS = [
    (CHAT_STREAM, (63, 3, 2, None, "stop")),
    (RESPONSE_STREAM, (57, 3, 56, 1, "length")),
    (MESSAGE_STREAM, (63, 3, 62, None, "end_turn")),
]


@pytest.mark.parametrize(("events", "told"), STREAMS)
@pytest.mark.parametrize("together", [True, False])
def test_a_stream_tells_the_same_in_one_packet_or_in_many(events: tuple[bytes, ...], told: tuple, together: bool):
    usage = Usage()
    for payload in (b"".join(events),) if together else events:
        usage.read_events(payload)

    assert read(usage) == told


@pytest.mark.parametrize(("events", "told"), STREAMS)
def test_a_stream_that_broke_off_has_not_told_what_it_completed(events: tuple[bytes, ...], told: tuple):
    usage = Usage()
    for payload in events[:1]:
        usage.read_events(payload)

    assert usage.tokens_out is None


def test_what_a_client_sent_and_the_engine_repeats_is_not_taken_for_usage():
    tools = b'"tools":[{"properties":{"usage":{"output_tokens":0,"input_tokens":0}}}],'
    usage = Usage()
    usage.read_answer(RESPONSE.replace(b'"status":"completed",\n', b"").replace(b'"usage"', tools + b'"usage"'))

    assert read(usage)[:2] == (57, 3)


def read(usage: Usage) -> tuple:
    return usage.tokens_in, usage.tokens_out, usage.tokens_cached, usage.tokens_reasoning, usage.finish


PLAIN_OUTCOME = {
    "kind": "outcome", "v": 1, "seq": 0, "at_us": 0, "prev": "0" * 64, "bytes_out": 0, "code": "", "duration_us": 0,
    "endpoint": "chat", "key": "k", "project": "p", "replica": "r", "request": "q", "result": "answered", "status": 200,
}  # fmt: skip
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.just({"cached_tokens": -1})
NAMES = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "cached_tokens",
]
ANSWERS = st.fixed_dictionaries(
    {"usage": ODD | st.dictionaries(st.sampled_from(NAMES), ODD, max_size=4)},
    optional={"choices": st.lists(st.fixed_dictionaries({"finish_reason": ODD}), max_size=2), "stop_reason": ODD},
)


@given(ANSWERS, st.booleans())
def test_whatever_an_engine_tells_a_spool_can_carry_it(answer: dict, streamed: bool):
    usage, body = Usage(), json.dumps(answer).encode()
    if streamed:
        usage.read_events(b"data: %b\n\n" % body)
    else:
        usage.read_answer(body)

    told = Outcome.model_validate(
        PLAIN_OUTCOME
        | {"finish": usage.finish, "tokens_in": usage.tokens_in, "tokens_out": usage.tokens_out}
        | {"tokens_cached": usage.tokens_cached, "tokens_reasoning": usage.tokens_reasoning}
    )
    assert told.finish.replace("_", "a").isalpha() or told.finish == ""


@pytest.mark.parametrize(
    "body",
    [
        CHAT.replace(b'"completion_tokens":4', b'"completion_tokens":-4'),
        CHAT.replace(b'"prompt_tokens":63', b'"prompt_tokens":100000000000000000000'),
        CHAT.replace(b'"cached_tokens":62', b'"cached_tokens":0.5'),
    ],
)
def test_a_count_that_makes_no_sense_tells_nothing(body: bytes):
    usage = Usage()
    usage.read_answer(body)

    assert read(usage) == (None, None, None, None, "")


def test_a_reason_that_is_no_word_is_another():
    usage = Usage()
    usage.read_answer(CHAT.replace(b'"length"', b'"%b"' % (b"x" * 200)))

    assert (usage.finish, usage.tokens_out) == ("other", 4)


def test_a_tool_behind_the_usage_of_a_stream_is_not_taken_for_it():
    tools = b',"tools":[{"properties":{"usage":{"output_tokens":0}}}]}}\n\n'
    usage = Usage()
    usage.read_events(RESPONSE_STREAM[1].removesuffix(b"}}\n\n") + tools)

    assert read(usage)[:2] == (57, 3)
