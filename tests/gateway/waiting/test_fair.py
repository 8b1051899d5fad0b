from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.contracts.snapshot import SnapshotShare
from controlplane.gateway.errors import QueueFull, Refusal
from controlplane.gateway.request import Work
from controlplane.gateway.waiting.fair import FairQueues


class Room:
    """An endpoint with so many seats, a clock that the test moves, and requests of any tenant."""

    def __init__(self, seats: int, *, most_waiting: int = 1024, weights: dict[str, int] | None = None) -> None:
        self.now_s = 0.0
        self.endpoint: Any = SimpleNamespace(endpoint_id="e", name="chat", parallel=seats, replicas=(1,))
        shares = {name: SnapshotShare(name=name, weight=weight) for name, weight in (weights or {}).items()}
        self._directory = SimpleNamespace(shares=shares)
        self.queues = FairQueues(
            time=lambda: self.now_s, endpoint_now=lambda endpoint: endpoint, most_waiting=most_waiting
        )
        self.order: list[str] = []

    def ask(self, name: str, tenant: str = "blue", *, tokens: int = 100, **work: Any) -> "Guest":
        request: Any = SimpleNamespace(
            endpoint=self.endpoint, grant=SimpleNamespace(project=tenant), work=Work(**work), body=b"x" * 4 * tokens,
            directory=self._directory, began_s=self.now_s,
        )  # fmt: skip
        return Guest(self, request, name)

    def let_all_go(self, guests: list["Guest"], *, tokens_out: int = 0) -> None:
        """End whoever sits, one after the other, until nobody waits."""
        while any(guest.sits for guest in guests):
            next(guest for guest in guests if guest.sits).leave(tokens_out)


class Guest:
    def __init__(self, room: Room, request: Any, name: str) -> None:
        self.name, self.tenant = name, request.grant.project
        self.sits = False
        self.refusal: Refusal | None = None
        self._room, self._request = room, request
        if room.queues.enter(request, self):
            self.seated()

    def seated(self) -> None:
        self.sits = True
        self._room.order.append(self.name)

    def not_seated(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self._room.queues.leave(self._request, self, 0)

    def leave(self, tokens_out: int = 0) -> None:
        self.sits = False
        self._room.queues.leave(self._request, self, tokens_out)


def test_a_seat_is_free_until_the_replicas_are_full_and_then_one_waits():
    room = Room(2)
    first, second, third = (room.ask(name) for name in "abc")

    assert (first.sits, second.sits, third.sits) == (True, True, False)
    first.leave()
    assert third.sits


def test_an_endpoint_that_does_not_say_how_much_it_runs_has_no_line():
    room = Room(0)

    assert all(room.ask(str(n)).sits for n in range(100))


def test_classes_come_in_their_order():
    room = Room(1)
    guests = [room.ask("first")]
    for priority in ("batch", "standard", "interactive"):
        guests += [room.ask(priority, priority=priority)]

    room.let_all_go(guests)

    assert room.order == ["first", "interactive", "standard", "batch"]


def test_who_asks_little_does_not_wait_behind_who_asks_much():
    room = Room(1)
    guests = [room.ask("loud", "loud") for _ in range(20)]
    guests += [room.ask("quiet", "quiet") for _ in range(3)]

    room.let_all_go(guests)

    assert [n for n, name in enumerate(room.order) if name == "quiet"] == [1, 3, 5]


def test_tokens_count_and_not_requests():
    room = Room(1)
    guests = [room.ask("first", "other")]
    for _ in range(40):
        guests += [room.ask("long", "long", tokens=400), room.ask("short", "short", tokens=100)]

    room.let_all_go(guests)

    assert 6 <= room.order[:40].count("long") <= 10


def test_what_was_completed_counts_twice():
    room = Room(1)
    guests = [room.ask("first", "other")]
    for _ in range(40):
        guests += [room.ask("talks", "talks", tokens=100), room.ask("reads", "reads", tokens=100)]

    while any(guest.sits for guest in guests):
        guest = next(guest for guest in guests if guest.sits)
        guest.leave(100 if guest.tenant == "talks" else 0)

    assert 9 <= room.order[:40].count("talks") <= 11


def test_a_share_of_three_times_the_weight_gets_three_times_the_tokens():
    room = Room(1, weights={"heavy": 3, "light": 1})
    guests = [room.ask("first", "other")]
    for _ in range(40):
        guests += [room.ask("heavy", "heavy"), room.ask("light", "light")]

    room.let_all_go(guests)

    assert 29 <= room.order[1:41].count("heavy") <= 31


def test_who_was_away_has_saved_nothing_up():
    room = Room(1)
    for _ in range(50):
        room.ask("busy", "busy").leave(1000)
    guests = [room.ask("busy", "busy")]
    for _ in range(20):
        guests += [room.ask("back", "back"), room.ask("busy", "busy")]

    room.let_all_go(guests)

    assert room.order[50:70].count("back") <= 11


def test_who_used_free_seats_owes_nothing_for_them_to_who_comes_later():
    room = Room(2)
    for _ in range(500):
        room.ask("early", "early").leave(50)
    guests = [room.ask("late", "late"), room.ask("late", "late")]
    room.order.clear()
    for _ in range(20):
        guests += [room.ask("early", "early"), room.ask("late", "late")]

    room.let_all_go(guests)

    assert 8 <= room.order[:20].count("early") <= 11


def test_batch_work_leaves_a_seat_free():
    room = Room(8)
    batch = [room.ask("batch", priority="batch") for _ in range(9)]

    assert sum(guest.sits for guest in batch) == 7
    assert room.ask("someone").sits


def test_who_waited_too_long_is_told_how_long_the_queue_is():
    room = Room(1)
    room.ask("first")
    guests = [room.ask("interactive"), room.ask("hurried", deadline_s=5.0), room.ask("batch", priority="batch")]

    room.now_s = 6.0
    room.queues.sweep(room.now_s)
    assert [guest.refusal is not None for guest in guests] == [False, True, False]
    room.now_s = 61.0
    room.queues.sweep(room.now_s)

    refusal = guests[0].refusal
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "queue_timeout")
    assert refusal.retry_after_s >= 1
    assert guests[2].refusal is None


def test_without_a_replica_it_is_not_the_queue_that_is_full():
    room = Room(1)
    room.ask("first")
    waiting = room.ask("waiting")
    room.endpoint.replicas = ()

    room.now_s = 61.0
    room.queues.sweep(room.now_s)

    assert waiting.refusal is not None
    assert (waiting.refusal.status, waiting.refusal.code) == (503, "no_ready_replica")


def test_the_line_is_bounded_and_whoever_fills_it_is_refused():
    room = Room(1, most_waiting=4)
    room.ask("first")
    loud = [room.ask("loud", "loud") for _ in range(4)]

    with pytest.raises(QueueFull) as refused:
        room.ask("loud", "loud")
    quiet = room.ask("quiet", "quiet")

    assert refused.value.status == 429
    assert quiet.refusal is None
    assert [guest.refusal is not None for guest in loud] == [False, False, False, True]


def test_retry_after_follows_how_long_seats_are_taken():
    room = Room(2)
    for _ in range(100):
        guest = room.ask("slow")
        room.now_s += 10.0
        guest.leave()
    for _ in range(10):
        room.ask("waiting")

    assert 40 <= room.queues.expected_wait_s(room.endpoint) <= 50


def test_who_leaves_the_line_is_not_called():
    room = Room(1)
    first, second, third = room.ask("first"), room.ask("second"), room.ask("third")

    second.leave()
    first.leave()

    assert not second.sits
    assert third.sits
    assert not room.queues.waiting().get("other")


def test_ten_thousand_that_end_as_soon_as_they_sit_do_not_pile_up():
    room = Room(1, most_waiting=20_000)
    first = room.ask("first")
    guests = [Hasty(room) for _ in range(10_000)]

    first.leave()

    assert all(guest.done for guest in guests)


class Hasty:
    def __init__(self, room: Room) -> None:
        self.done = False
        self._room = room
        self._request = _request_before(room)
        room.queues.enter(self._request, self)

    def seated(self) -> None:
        self.done = True
        self._room.queues.leave(self._request, self, 0)

    def not_seated(self, refusal: Refusal) -> None:
        raise refusal


def _request_before(room: Room) -> Any:
    return SimpleNamespace(
        endpoint=room.endpoint, grant=SimpleNamespace(project="blue"), work=Work(), body=b"",
        directory=SimpleNamespace(shares={}), began_s=0.0,
    )  # fmt: skip
