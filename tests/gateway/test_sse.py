import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.sse import EventGate, EventTooLarge


@given(
    words=st.lists(st.text(alphabet="ab\r\n", max_size=8), max_size=8), cuts=st.lists(st.integers(0, 80), max_size=8)
)
def test_only_whole_events_pass_and_none_is_lost(words, cuts):
    data = "\n\n".join(words).encode()
    gate = EventGate(1000)
    passed = []
    edges = [0, *sorted(c for c in cuts if c < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        passed.append(gate.feed(data[start:end]))

    whole = b"".join(passed)
    assert data.startswith(whole)
    assert gate.holds_part == (whole != data)
    assert all(part == b"" or part.endswith((b"\n\n", b"\r\n\r\n")) for part in passed)


def test_an_event_without_an_end_does_not_fill_our_memory():
    gate = EventGate(100)
    gate.feed(b"data: " + b"x" * 90)

    with pytest.raises(EventTooLarge):
        gate.feed(b"x" * 10)
