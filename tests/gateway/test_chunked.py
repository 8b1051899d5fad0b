import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.chunked import LAST, BadChunk, ChunkedReader, chunk

PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@given(payloads=PAYLOADS, cuts=st.lists(st.integers(0, 300), max_size=12), rest=st.binary(max_size=20))
def test_a_body_is_the_same_however_the_network_cuts_it(payloads, cuts, rest):
    data = b"".join(map(chunk, payloads)) + LAST + rest
    reader = ChunkedReader()
    got = b""
    edges = [0, *sorted(c for c in cuts if c < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        if reader.done:
            break
        got += reader.feed(data[start:end])

    assert got == b"".join(payloads)
    assert reader.done
    assert rest.startswith(reader.rest)


@given(payloads=PAYLOADS, cut=st.integers(1, 200))
def test_a_body_that_was_cut_short_is_never_done(payloads, cut):
    data = (b"".join(map(chunk, payloads)) + LAST)[:-cut]
    reader = ChunkedReader()

    reader.feed(data)

    assert not reader.done


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"\r\n",
        b"-1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1_0\r\na\r\n",
        b"1;a=b\r\na\r\n",
        b"1\na\n",
        b"123456789\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\rb",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\n\rx",
    ],
)
def test_what_is_not_strictly_chunked_is_refused(data: bytes):
    with pytest.raises(BadChunk):
        ChunkedReader().feed(data)


@given(st.binary(max_size=60))
def test_noise_is_read_or_refused_and_nothing_else(noise: bytes):
    reader = ChunkedReader()
    try:
        assert len(reader.feed(noise)) <= len(noise)
    except BadChunk:
        return
