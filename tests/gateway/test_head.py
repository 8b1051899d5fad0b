import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.errors import BadRequest
from controlplane.gateway.head import Head, HeadReader, read_head

LINES = st.sampled_from(
    [
        b"Host: x",
        b"Authorization: Bearer a",
        b"Authorization: Bearer b",
        b"content-length: 12",
        b"Content-Length: 7",
        b"Content-Length:9  ",
        b"Content-Length: 1 2",
        b"Content-Length: 99999999999999999999999",
        b"X-Content-Length: 3",
        b"X: content-length: 4",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Expect: 100-continue",
        b"X-Other: y",
    ]
)
HEADS = st.builds(
    lambda start, lines: b"\r\n".join([start, *lines, b"", b""]),
    st.sampled_from([b"POST /v1/chat/completions HTTP/1.1", b"GET /livez?a=b HTTP/1.1", b"POST / HTTP/1.0"]),
    st.lists(LINES, max_size=6).map(lambda lines: [b"Host: x", *lines]),
)


def verdict(read, raw: bytes) -> Head | str:
    try:
        return read(raw)
    except BadRequest as error:
        return error.detail


@given(st.lists(HEADS, min_size=1, max_size=6))
def test_a_remembered_head_is_read_as_if_it_were_the_first(heads):
    reader = HeadReader()

    assert [verdict(reader.read, raw) for raw in heads] == [verdict(read_head, raw) for raw in heads]


@given(st.binary(max_size=12) | st.from_regex(rb"[0-9+_ ]{1,40}", fullmatch=True), st.binary(max_size=4))
def test_nothing_but_digits_passes_for_a_length(digits, after):
    before = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: "
    reader = HeadReader()
    reader.read(before + b"5\r\n\r\n")
    raw = before + digits + after + b"\r\n\r\n"

    assert verdict(reader.read, raw) == verdict(read_head, raw)


def test_the_six_fields_are_found_in_any_case():
    head = read_head(
        b"POST /v1/x?y=z HTTP/1.1\r\nHOST: a\r\naUTHORIZATION: Bearer K\r\ncontent-LENGTH: 5\r\n"
        b"CONNECTION: Close\r\nEXPECT: 100-Continue\r\n\r\n"
    )

    assert head == Head(b"POST", b"/v1/x", False, True, b"Bearer K", 5, False, True)


@pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close", b"upgrade,CLOSE"])
def test_a_client_that_wants_to_close_is_understood(value: bytes):
    assert not read_head(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %b\r\n\r\n" % value).keep_alive
