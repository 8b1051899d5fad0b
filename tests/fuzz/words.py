"""What clients and engines say, nearly right: real requests and answers with something wrong in them."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from controlplane.gateway.chunked import chunk
from controlplane.gateway.routes import SURFACES
from tests.gateway.stage import COMPLETION, KEY

_AUTH = f"Bearer {KEY}".encode()
_MESSAGES = [{"role": "user", "content": "hello"}]
_BODIES: dict[bytes, dict[str, Any]] = {
    b"/v1/chat/completions": {"model": "chat", "messages": _MESSAGES, "max_tokens": 40},
    b"/v1/completions": {"model": "chat", "prompt": "hello", "max_tokens": 40},
    b"/v1/responses": {"model": "chat", "input": "hello", "max_output_tokens": 40, "store": False},
    b"/v1/messages": {"model": "chat", "messages": _MESSAGES, "max_tokens": 40},
    b"/v1/embeddings": {"model": "chat", "input": ["hello"]},
    b"/v1/rerank": {"model": "chat", "query": "hello", "documents": ["hello"]},
    b"/tokenize": {"model": "chat", "prompt": "hello"},
}
_STREAMED = {b"/v1/chat/completions", b"/v1/completions", b"/v1/responses", b"/v1/messages"}
_NAMES = st.sampled_from(
    ["model", "messages", "stream", "max_tokens", "n", "tools", "stop", "cache_salt", "priority", "prompt", "x", ""]
)
_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20).map(lambda b: b.decode("latin-1")),
)
_JSON = st.recursive(
    _ODD,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=8), some, max_size=4),
    max_leaves=12,
)
_DEEP = st.integers(100, 30_000).map(lambda depth: b"[" * depth + b"]" * depth)

_LINES = st.sampled_from(
    [
        b"Host: x",
        b"Host: evil\r\nHost: x",
        b"Connection: close",
        b"Connection: keep-alive, close",
        b"Expect: 100-continue",
        b"Expect: 200-ok",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 5",
        b"Content-Length: 00000000000000000000005",
        b"Content-Length: 18446744073709551616",
        b"Upgrade: h2c",
        b"X-Api-Key: " + KEY.encode(),
        b"Authorization: Basic eDp5",
        b"X-Redoubt-Deadline: 1e9",
        b"X-Redoubt-Deadline: 5",
        b"X-Redoubt-Run: a\x00b",
        b"X-Redoubt-Priority: batch",
        b"X-Redoubt-Classification: secret",
        b"X: " + b"a" * 3000,
        b" folded: x",
        b"\xff\xfe: x",
        b"",
    ]
)


def mutated(data: bytes, cuts: list[tuple[int, int, bytes]]) -> bytes:
    """Replace some bytes here and there."""
    for place, length, put in cuts:
        at = place % (len(data) + 1)
        data = data[:at] + put + data[at + length :]
    return data


_CUTS = st.lists(
    st.tuples(
        st.integers(0, 5000),
        st.integers(0, 12),
        st.sampled_from([b"", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b'"', b"0", b"{", b"]", b"\r\n\r\n", b"0\r\n\r\n"])
        | st.binary(max_size=6),
    ),
    max_size=2,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


@st.composite
def bodies(draw: st.DrawFn, path: bytes) -> bytes:
    asked = dict(_BODIES.get(path, {"model": "chat"}))
    if path in _STREAMED and draw(st.booleans()):
        asked["stream"] = True
    if draw(st.integers(0, 3)) == 0:
        asked[draw(_NAMES)] = draw(_JSON)
    body = json.dumps(asked, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        body = body.replace(b'"hello"', draw(_DEEP))
    return mutated(body, draw(_CUTS)) if draw(st.integers(0, 3)) == 0 else body


_PATHS = [*SURFACES, *_BODIES, *_BODIES, b"/v1/models", b"/v1/models/chat", b"/livez", b"/nowhere"]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    path = draw(
        st.sampled_from([*SURFACES, *_BODIES, *_BODIES, b"/v1/models", b"/v1/models/chat", b"/livez", b"/nowhere"])
    )
    method = draw(st.sampled_from([b"POST"] * 8 + [b"GET", b"HEAD", b"OPTIONS", b"BREW"]))
    body = draw(bodies(path))
    lines = [b"%b %b HTTP/1.%d" % (method, path, draw(st.sampled_from([1, 1, 1, 0]))), b"Host: x"]
    lines.append(b"Authorization: " + _AUTH)
    if draw(st.integers(0, 5)) == 0:
        lines += draw(st.lists(_LINES, min_size=1, max_size=2))
    if draw(st.integers(0, 3)) == 0:
        lines.append(b"Transfer-Encoding: chunked")
        half = len(body) // 2
        body = (
            b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part) + b"0\r\n\r\n"
        )
    else:
        lines.append(b"Content-Length: %d" % len(body))
    request = b"\r\n".join(lines) + b"\r\n\r\n" + body
    return mutated(request, draw(_CUTS)) if draw(st.integers(0, 5)) == 0 else request


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """One to three requests in a row, in pieces."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    return pieces(data, draw(st.lists(st.integers(0, 20_000), max_size=4)))


_HEAD = b"HTTP/1.1 %b\r\nServer: hidden-engine\r\nContent-Type: %b\r\n"
_EVENTS = [
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}]}\n\n',
    b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}\n\n',
    b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
    b": ping\n\n",
    b"event: error\r\ndata: {}\r\n\r\n",
    b"data: \xff\x00\n\n",
    b"data: half",
    b"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
]


@st.composite
def engine_answers(draw: st.DrawFn) -> list[bytes]:
    """What one engine says to one request, in pieces; then it hangs up."""
    if draw(st.booleans()):
        events = draw(st.lists(st.sampled_from(_EVENTS), max_size=8))
        head = _HEAD % (b"200 OK", b"text/event-stream") + b"Transfer-Encoding: chunked\r\n\r\n"
        ending = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\n\r\n", b"", b"0\r\nX: y\r\n\r\n"]))
        answer = head + b"".join(map(chunk, events)) + ending
    else:
        statuses = [b"200 OK", b"200 OK", b"400 Bad", b"404 No", b"422 No", b"500 Oh", b"503 Busy", b"100 Continue"]
        body = draw(st.sampled_from([COMPLETION, b'{"error":{"message":"a\\nb\\r\\n\\r\\n"}}', b"{", b"\xff", b""]))
        head = _HEAD % (draw(st.sampled_from(statuses)), b"application/json")
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    if draw(st.integers(0, 2)) == 0:
        answer = mutated(answer, draw(_CUTS))
    return pieces(answer, draw(st.lists(st.integers(0, 3000), max_size=3)))
