"""Nothing in a prompt makes an engine look elsewhere, at whatever depth and however it is written."""

import json

import pytest

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.routes import SURFACES

INLINE, ELSEWHERE = "data:image/png;base64,AAAA", ["http://10.0.0.1/x.png", "file:///etc/passwd", "//x", ""]


def read(path: str, body: dict | bytes):
    raw = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    return SURFACES[path.encode()].read(raw)


def chat(*parts: object) -> dict:
    return {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize("kind", ["image_url", "video_url", "audio_url"])
def test_media_of_a_chat_lie_in_it(kind: str):
    read("/v1/chat/completions", chat({"type": "text", "text": "what?"}, {"type": kind, kind: {"url": INLINE}}))
    for url in ELSEWHERE:
        with pytest.raises(BadRequest) as refused:
            read("/v1/chat/completions", chat({"type": kind, kind: {"url": url}}))
        assert (refused.value.param, refused.value.code) == ("messages", "part_not_allowed")


@pytest.mark.parametrize(
    "part",
    [
        {"image_url": {"url": INLINE}},
        {"type": "image_url", "image_url": INLINE},
        {"type": "image_url", "image_url": {"url": INLINE}, "uuid": "of another tenant"},
        {"type": "image_embeds", "image_embeds": "gASV"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "x", "image_url": {"url": "http://x"}},
        "text",
    ],
)
def test_a_part_of_another_kind_is_refused(part: object):
    with pytest.raises(BadRequest):
        read("/v1/chat/completions", chat(part))


def test_escapes_hide_nothing():
    body = json.dumps({"model": "m", **chat({"type": "image_url", "image_url": {"url": "http://x"}})}).encode()
    hidden = body.replace(b"image_url", b"\\u0069mage_url").replace(b'"content"', b'"\\u0063ontent"')

    assert json.loads(hidden) == json.loads(body)
    with pytest.raises(BadRequest):
        read("/v1/chat/completions", hidden)


def test_an_agents_turns_pass():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"url":"http://x"}'}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "[1]"}]},
        {"role": "assistant", "content": "done", "refusal": None},
    ]

    assert len(read("/v1/chat/completions", {"messages": turns}).messages) == 3


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
FETCHED = {"type": "image", "source": {"type": "url", "url": "http://10.0.0.1/x.png"}}


def result(*content: object) -> dict:
    return {"type": "tool_result", "tool_use_id": "t", "content": list(content)}


def test_media_of_anthropics_messages_lie_in_them():
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"url": "http://x", "source": {"type": "url"}}}
    read("/v1/messages", {"messages": [{"role": "user", "content": [IMAGE, use, result(IMAGE)]}]})
    for content in ([FETCHED], [result(FETCHED)], [result(result(FETCHED))], [{"type": "file"}], ["x"]):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            with pytest.raises(BadRequest):
                read(path, {"messages": [{"role": "user", "content": content}]})
    with pytest.raises(BadRequest):
        read("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "system": [FETCHED]})


def test_results_of_tools_do_not_nest_without_end():
    deep: dict = {"type": "text", "text": "x"}
    for _ in range(8):
        deep = result(deep)

    with pytest.raises(BadRequest, match="too deep"):
        read("/v1/messages", {"messages": [{"role": "user", "content": [deep]}]})


def test_the_input_of_a_response_lies_in_it():
    image = {"type": "input_image", "image_url": INLINE, "detail": "low"}
    said = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "a", "annotations": []}],
    }
    output = {"type": "function_call_output", "call_id": "c", "output": "42"}
    read("/v1/responses", {"input": [{"role": "user", "content": [image]}, said, output]})
    parts = [{"type": "input_image", "image_url": "http://x"}, {"type": "input_image", "file_id": "f"}]
    parts += [{"type": "input_file", "file_url": "http://x"}]
    for item in (*({"role": "user", "content": [part]} for part in parts), {"type": "item_reference", "id": "i"}):
        with pytest.raises(BadRequest):
            read("/v1/responses", {"input": [item]})


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "tools", "messages", "add_generation_prompt", "x"])
def test_a_template_is_told_only_what_cannot_replace_it(name: str):
    read("/v1/chat/completions", {"messages": [{}], "chat_template_kwargs": {"enable_thinking": False}})
    with pytest.raises(BadRequest) as refused:
        read("/v1/chat/completions", {"messages": [{}], "chat_template_kwargs": {name: True}})

    assert refused.value.param == name


def test_the_number_of_completions_has_a_bound():
    with pytest.raises(BadRequest):
        read("/v1/chat/completions", {"messages": [{}], "n": 129})
    with pytest.raises(BadRequest, match="asks for 10000 completions"):
        read("/v1/completions", {"prompt": ["a"] * 100, "n": 100}).require_fit("vllm")


def test_what_is_told_of_a_field_is_short():
    with pytest.raises(BadRequest) as refused:
        read("/v1/chat/completions", {"messages": [{}], "x" * 1_000_000: 1})

    assert len(refused.value.param or "") == 100
