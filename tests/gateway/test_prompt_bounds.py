"""What bounds a prompt's tokens before anybody has counted them."""

import pytest

from controlplane.gateway.budget.needs import prompt_bound
from controlplane.gateway.errors import BadRequest
from tests.support.budgeted import CHAT, directory_of, request_with


def bound_of(body: bytes, path: bytes = CHAT, template: int | None = 20) -> int:
    return prompt_bound(request_with(directory_of(), body, path=path), template)


@pytest.mark.parametrize(
    "field",
    [
        b'"tools":[{"type":"function","function":{"name":"f"}}]',
        b'"\\u0074ools":[{"type":"function","function":{"name":"f"}}]',
        b'"response_format":{"type":"json_object"}',
        b'"reasoning_effort":"high"',
    ],
)
def test_what_a_template_writes_out_in_its_own_way_is_bounded_by_the_context(field: bytes):
    assert bound_of(b'{"model":"chat","messages":[{"role":"user","content":"hi"}],%b}' % field) == 512


IMAGE = b'"url":"data:image/png;base64,AA"'


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (b'{"role":"user","content":"hi"}', True),
        (b'{"role": "user", "content": [{"type": "text", "text": "hi"}]}', True),
        (b'{"role":"user","content":"\\"type\\":\\"image\\""}', True),
        (b'{"role":"user","content":"h\\u00fc"}', True),
        (b'{"role":"user","content":[{"type":"image_url","image_url":{%b}}]}' % IMAGE, False),
        (b'{"role":"user","content":[{"image_url":{%b}}]}' % IMAGE, False),
        (b'{"role":"user","content":[{"\\u0074ype":"image_url","image_url":{%b}}]}' % IMAGE, False),
        (b'{"role":"assistant","content":null,"tool_calls":[]}', False),
    ],
)
def test_a_prompt_is_bounded_by_its_bytes_only_when_all_of_it_is_text(message: bytes, plain: bool):
    body = b'{"model":"chat","max_tokens":5,"messages":[%b]}' % message
    try:
        found = bound_of(body)
    except BadRequest:
        return  # the door lets no such part in at all

    assert found == (len(body) + 20 + 16 if plain else 512)


def test_until_a_replica_has_counted_the_template_the_context_bounds_a_prompt():
    body = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'

    assert (bound_of(body, template=None), bound_of(body, template=300)) == (512, len(body) + 316)


def test_a_text_that_is_ranked_with_many_counts_with_each_of_them():
    body = b'{"model":"chat","query":"%b","documents":["a","b","c"]}' % (b"q" * 100)

    assert bound_of(body, b"/v1/rerank") == len(body) * 4 + 64
