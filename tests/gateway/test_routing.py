from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from controlplane.gateway.routing.choose import choose_replica


@dataclass(frozen=True)
class Candidate:
    running: int
    rests_until: float = 0.0
    name: str = ""


def test_the_replica_with_the_fewest_running_requests_is_chosen():
    replicas = [Candidate(3), Candidate(1), Candidate(2)]

    assert choose_replica(replicas, turn=0, now=1.0) == Candidate(1)


def test_equally_busy_replicas_take_turns():
    replicas = [Candidate(1, name=name) for name in "abc"]

    chosen = [choose_replica(replicas, turn=turn, now=1.0) for turn in range(6)]

    assert "".join(c.name for c in chosen if c) == "abcabc"


def test_a_resting_replica_is_the_last_resort():
    resting, busy = Candidate(0, rests_until=5.0), Candidate(9)

    assert choose_replica([resting, busy], turn=0, now=1.0) == busy
    assert choose_replica([resting], turn=0, now=1.0) == resting


def test_nobody_is_chosen_when_all_are_avoided():
    replicas = [Candidate(0, name="a"), Candidate(0, name="b")]

    assert choose_replica(replicas, turn=1, now=1.0, avoid=replicas) is None
    assert choose_replica([], turn=1, now=1.0) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_no_other_replica_has_fewer_requests_than_the_chosen_one(loads, turn):
    replicas = [Candidate(load, name=str(n)) for n, load in enumerate(loads)]

    chosen = choose_replica(replicas, turn=turn, now=1.0)

    assert chosen is not None
    assert chosen.running == min(loads)
