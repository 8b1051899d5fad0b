"""A fair queue before every endpoint: as many seats as its replicas run at once, and a bounded line for the rest."""

from collections.abc import Callable
from math import ceil
from typing import Final, Protocol, get_args

from controlplane.contracts.snapshot import Priority
from controlplane.gateway.directory import Endpoint
from controlplane.gateway.errors import NoReplica, QueueFull, QueueTimeout, Refusal
from controlplane.gateway.request import Request
from controlplane.gateway.waiting.line import FIRST_GUESS_S, Line, Place, place_of
from controlplane.gateway.waiting.queues import Waiter

PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
_BATCH = PRIORITIES.index("batch")
_LONGEST_S: Final[dict[Priority, float]] = {"interactive": 60.0, "standard": 120.0, "batch": 590.0}
_MOST_WAITING = 1024  # before one endpoint, in one process
_SPARE = 8  # one seat of so many stays free of batch work
_LONGEST_RETRY_S = 600
_EMPTY_FOR_S = 600.0  # then a line is forgotten, and its endpoint may be gone


class Elsewhere(Protocol):
    """What the other workers of this node have seated."""

    def seats(self, endpoint_id: str) -> int: ...

    def tell(self, endpoint_id: str, seated: int) -> None: ...

    def forget(self, endpoint_id: str) -> None:
        """Nobody sits there for now."""
        ...


class Alone:
    def seats(self, endpoint_id: str) -> int:  # noqa: ARG002 - there is nobody else
        return 0

    def tell(self, endpoint_id: str, seated: int) -> None:
        """Do nothing: nobody listens."""

    def forget(self, endpoint_id: str) -> None:
        """Do nothing: nothing was told."""


class FairQueues:
    """Endpoints that do not say how much they run at once have no line. `time` is the loop's."""

    def __init__(
        self,
        *,
        time: Callable[[], float],
        endpoint_now: Callable[[Endpoint], Endpoint],
        elsewhere: Elsewhere | None = None,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._time = time
        self._endpoint_now = endpoint_now
        self._elsewhere = elsewhere or Alone()
        self._most_waiting = most_waiting
        self._lines: dict[str, Line] = {}
        self._endpoints: dict[str, Endpoint] = {}  # before which somebody waits

    def enter(self, request: Request, waiter: Waiter) -> bool:
        endpoint, rank, now_s = self._endpoint_now(request.endpoint), _rank(request), self._time()
        seats = seats_of(endpoint)
        if not seats:
            return True
        line = self._lines.get(endpoint.endpoint_id) or self._new_line(endpoint)
        place = place_of(request, waiter, now_s + _longest_s(request, now_s), now_s)
        if not line.waits and self._has_seat(line, endpoint, seats, rank):
            self._sit(line, endpoint, place, now_s)
            return True
        if len(line.waits) >= self._most_waiting:
            self._make_room(line, endpoint, place.tenant, rank)
        line.stand(place, rank)
        self._endpoints[endpoint.endpoint_id] = endpoint
        self._fill(line, endpoint, now_s)
        return False

    def leave(self, request: Request, waiter: Waiter, tokens_out: int) -> None:
        line = self._lines.get(request.endpoint.endpoint_id)
        if line is None:
            return
        now_s = self._time()
        place = line.seated.pop(waiter, None)
        if place is not None:
            line.get_up(place, tokens_out, now_s)
            self._elsewhere.tell(request.endpoint.endpoint_id, len(line.seated))
        elif waiter in line.waits:
            line.remove(waiter)
        if line.waits:
            self._fill(line, self._endpoint_now(request.endpoint), now_s)

    def sweep(self, now_s: float) -> None:
        for endpoint_id, endpoint in tuple(self._endpoints.items()):
            line, now = self._lines[endpoint_id], self._endpoint_now(endpoint)
            for place in line.overdue(now_s):
                if place.waiter in line.waits:
                    line.remove(place.waiter)
                    place.waiter.not_seated(self._timed_out(line, now, now_s - place.since_s))
            self._fill(line, now, now_s)
            if not line.waits:
                del self._endpoints[endpoint_id]
        self._forget_empty(now_s)

    def look(self) -> None:
        """Seat whoever waits, if another worker has left a seat."""
        now_s = self._time()
        for endpoint_id, endpoint in tuple(self._endpoints.items()):
            self._fill(self._lines[endpoint_id], self._endpoint_now(endpoint), now_s)

    def expected_wait_s(self, endpoint: Endpoint) -> float:
        """Return how long a request that came now would wait, as a guess."""
        line, seats = self._lines.get(endpoint.endpoint_id), seats_of(endpoint)
        if line is None or not seats:
            return FIRST_GUESS_S
        return (len(line.waits) + 1) * line.seat_s / seats

    def waiting(self) -> dict[str, int]:
        """Return how many wait, by endpoint."""
        return {endpoint.name: len(self._lines[name].waits) for name, endpoint in self._endpoints.items()}

    def _new_line(self, endpoint: Endpoint) -> Line:
        line = self._lines[endpoint.endpoint_id] = Line(len(PRIORITIES))
        return line

    def _forget_empty(self, now_s: float) -> None:
        empty = [name for name, line in self._lines.items() if line.is_empty(before_s=now_s - _EMPTY_FOR_S)]
        for endpoint_id in empty:
            del self._lines[endpoint_id]
            self._elsewhere.forget(endpoint_id)

    def _has_seat(self, line: Line, endpoint: Endpoint, seats: int, rank: int) -> bool:
        free = seats - len(line.seated) - self._elsewhere.seats(endpoint.endpoint_id)
        return free > (seats // _SPARE if rank == _BATCH else 0)

    def _sit(self, line: Line, endpoint: Endpoint, place: Place, now_s: float) -> None:
        line.sit(place, now_s)
        self._elsewhere.tell(endpoint.endpoint_id, len(line.seated))

    def _fill(self, line: Line, endpoint: Endpoint, now_s: float) -> None:
        """Seat waiters while there is room. One that ends at once comes here again, and finds it being done."""
        seats = seats_of(endpoint)
        if line.filling or not endpoint.replicas:
            return
        line.filling = True
        try:
            while line.waits and (not seats or self._has_seat(line, endpoint, seats, 0)):
                ranks = _BATCH + 1 if not seats or self._has_seat(line, endpoint, seats, _BATCH) else _BATCH
                place = line.next(range(ranks))
                if place is None:
                    break
                self._sit(line, endpoint, place, now_s)
                place.waiter.seated()
        finally:
            line.filling = False

    def _make_room(self, line: Line, endpoint: Endpoint, tenant: str, rank: int) -> None:
        """Let the newest of the busiest tenant go. Raises QueueFull when that is this very one."""
        refusal = QueueFull(
            f"{len(line.waits)} requests wait for {endpoint.name} already",
            remedy="try again when Retry-After says, or send fewer at once",
        )
        refusal.retry_after_s = self._retry_s(endpoint)
        place = line.give_way(tenant, rank)
        if place is None:
            raise refusal
        place.waiter.not_seated(refusal)

    def _timed_out(self, line: Line, endpoint: Endpoint, waited_s: float) -> Refusal:
        if not endpoint.replicas:
            return NoReplica(f"{endpoint.name} has no ready replica", remedy="try again in a few seconds")
        refusal = QueueTimeout(
            f"{endpoint.name} was full for {waited_s:.0f} s; {len(line.waits)} more requests wait",
            remedy="try again when Retry-After says; operators: add replicas, or give the share more weight",
        )
        refusal.retry_after_s = self._retry_s(endpoint)
        return refusal

    def _retry_s(self, endpoint: Endpoint) -> int:
        return min(_LONGEST_RETRY_S, max(1, ceil(self.expected_wait_s(endpoint))))


def seats_of(endpoint: Endpoint) -> int:
    """Return how many requests its replicas run at once, 0 where that is not known."""
    return endpoint.parallel * len(endpoint.replicas)


def _rank(request: Request) -> int:
    return PRIORITIES.index(request.work.priority)


def _longest_s(request: Request, now_s: float) -> float:
    """Return how long it may wait: its class has an end, and a client that says when it leaves is not kept longer."""
    longest_s, deadline_s = _LONGEST_S[request.work.priority], request.work.deadline_s
    return min(longest_s, deadline_s - (now_s - request.began_s)) if deadline_s else longest_s
