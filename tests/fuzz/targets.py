"""What must hold whatever comes: `make fuzz` looks for ten minutes, each test run for a few seconds."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import httptools
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.chunked import ChunkedReader, chunk
from controlplane.gateway.errors import BadRequest, Refusal
from controlplane.gateway.head import HeadReader, read_head
from controlplane.gateway.link import BrokenAnswer, read_answer_head
from controlplane.gateway.resume import Recall
from controlplane.gateway.routes import SURFACES
from controlplane.gateway.sse import EventGate
from controlplane.gateway.suspects import Suspects
from controlplane.kit.errors import BadInput
from tests.fuzz.wires import Fuzzed, make_fuzzed, read_answers
from tests.fuzz.words import bodies, conversations, engine_answers, pieces, requests

_KNOWN = {200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 417, 422, 429, 431, 451, 502, 503, 504}
_gateway = cache(make_fuzzed)


@given(conversations(), st.lists(engine_answers(), min_size=2, max_size=6))
def conversation(said: list[bytes], answers: list[list[bytes]]) -> None:
    """Whatever a client and its engines say, the client gets whole answers, and nothing is left behind."""
    gateway: Fuzzed = _gateway()
    gateway.journal.intents.clear()
    gateway.journal.notes.clear()
    gateway.hub.suspects = Suspects()

    sent = gateway.visit(said, answers)

    assert gateway.faults == []
    assert not gateway.hub.connections
    assert {replica.standing.running for replica in gateway.replicas} == {0}
    assert [o.request for o in gateway.journal.outcomes] == [i.request for i in gateway.journal.intents]
    assert b"hidden-engine" not in sent
    for status, body in _answers(sent):
        assert status in _KNOWN
        if status >= 400 and body:
            assert json.loads(body)["error"]["message"]


def _answers(sent: bytes) -> list[tuple[int, bytes]]:
    """Return the answers that came whole. An answer to HEAD has a length and no body: none follows it here."""
    try:
        return read_answers(sent)
    except httptools.HttpParserError:
        assert b"content-length" in sent
        return []


@given(st.sampled_from(list(SURFACES)).flatmap(lambda path: st.tuples(st.just(path), bodies(path))))
def body(asked: tuple[bytes, bytes]) -> None:
    """A body is read, or refused in words that go into JSON."""
    path, data = asked
    with suppress(BadRequest):
        ask = SURFACES[path].read(data)
        _ = ask.model, ask.streamed, ask.completion_tokens, ask.choices, ask.prompt


@given(requests())
def head(data: bytes) -> None:
    """One reader that remembers the last head and one that does not agree on every head."""
    raw = data[: data.find(b"\r\n\r\n") + 4]
    reader = HeadReader()

    first, again, fresh = (_outcome(read, raw) for read in (reader.read, reader.read, read_head))

    assert first == again == fresh


def _outcome(read: Callable[[bytes], object], raw: bytes) -> object:
    try:
        return read(raw)
    except Refusal as refusal:
        return refusal.detail


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.lists(st.integers(0, 2000), max_size=6))
def chunks(payloads: list[bytes], cuts: list[int]) -> None:
    """A chunked body is the same however it is cut."""
    data = b"".join(map(chunk, payloads)) + b"0\r\n\r\n" + b"rest"
    reader, got = ChunkedReader(), b""

    for piece in pieces(data, cuts):
        if reader.done:
            break
        got += reader.feed(piece)

    assert got == b"".join(payloads)
    assert reader.done
    assert b"rest".startswith(reader.rest)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def broken_chunks(data: bytes, cuts: list[int]) -> None:
    """What is no chunked body is refused, or waits for more, but never gives more than came."""
    reader, got = ChunkedReader(), b""
    try:
        for piece in pieces(data, cuts):
            if not reader.done:
                got += reader.feed(piece)
    except BadInput:
        return
    assert len(got) <= len(data)


@given(engine_answers())
def answer_head(said: list[bytes]) -> None:
    """The end of an engine's answer is certain, or the answer is refused."""
    data = b"".join(said)
    end = data.find(b"\r\n\r\n")
    try:
        found = read_answer_head(data[: end + 4])
    except BrokenAnswer:
        return
    assert 100 <= found.status < 600
    assert found.length >= -1


@given(st.lists(st.sampled_from([b"data: a", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\r", b": c"]), max_size=20))
def events(parts: list[bytes]) -> None:
    """Only whole events pass, and nothing is lost or said twice."""
    gate = EventGate(1000)

    passed = [gate.feed(part) for part in parts]

    out = b"".join(passed)
    assert b"".join(parts).startswith(out)
    assert all(not some or some.endswith((b"\n\n", b"\r\n\r\n")) for some in passed)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=60))
def recall(words: list[str]) -> None:
    """What a stream has said is remembered to the letter, and never in fewer tokens than it may have been."""
    memory = Recall("chat")
    for word in words:
        delta = json.dumps({"choices": [{"delta": {"content": word}, "finish_reason": None}]})
        memory.keep(b"data: %b\n\n" % delta.encode())
    memory.condense()

    assert json.loads(b'"%b"' % memory.said) == "".join(words)
    assert memory.tokens >= sum(bool(word) for word in words)


TARGETS = (conversation, body, head, chunks, broken_chunks, answer_head, events, recall)
