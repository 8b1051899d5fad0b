"""The line before one endpoint: classes in their order, within a class whoever was served least for its weight.

Fairness counts tokens, not requests (virtual token counter: Sheng et al., Fairness in Serving Large Language Models,
OSDI 2024): what a tenant's prompt costs when it is seated and twice its completion when it leaves, by its weight.
"""

from collections import deque
from typing import Final

import msgspec

from controlplane.gateway.request import Request
from controlplane.gateway.waiting.queues import Waiter

_OUT_WEIGHT = 2  # reading runs in parallel, writing does not
_PROMPT_BYTES_A_TOKEN = 4
_MOST_TENANTS = 4096
_LEARNS: Final = 0.1
FIRST_GUESS_S = 2.0


class Place(msgspec.Struct, gc=False):
    """Where one request stands, or sits: from `since_s` on, the loop's time."""

    waiter: Waiter
    tenant: str
    weight: int
    tokens_in: int
    ends_s: float
    since_s: float


class Line:
    """`seated` have a seat, `waiting` do not. Times are the loop's.

    `_turn` is what whoever was seated last had been served (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996).
    """

    __slots__ = ("_served", "_turn", "filling", "seat_s", "seated", "used_s", "waiting", "waits")

    def __init__(self, classes: int) -> None:
        self.seated: dict[Waiter, Place] = {}
        self.waiting: tuple[dict[str, deque[Place]], ...] = tuple({} for _ in range(classes))
        self.waits: dict[Waiter, int] = {}  # in which class
        self.seat_s = FIRST_GUESS_S  # how long a seat is taken, as a rule
        self.filling = False
        self.used_s = 0.0  # when somebody sat down or got up last
        self._served: dict[str, float] = {}
        self._turn = 0.0

    def stand(self, place: Place, rank: int) -> None:
        self._lift(place.tenant)
        self.waiting[rank].setdefault(place.tenant, deque()).append(place)
        self.waits[place.waiter] = rank

    def sit(self, place: Place, now_s: float) -> None:
        self._lift(place.tenant)
        self._turn = max(self._turn, self._served[place.tenant])
        self._served[place.tenant] += place.tokens_in / place.weight
        place.since_s = self.used_s = now_s
        self.seated[place.waiter] = place

    def get_up(self, place: Place, tokens_out: int, now_s: float) -> None:
        self._served[place.tenant] = self._served.get(place.tenant, 0.0) + _OUT_WEIGHT * tokens_out / place.weight
        self.seat_s += _LEARNS * (now_s - place.since_s - self.seat_s)
        self.used_s = now_s

    def next(self, ranks: range) -> Place | None:
        """Take the first of these classes' waiters, by class, by what its tenant was served, by its time."""
        for rank in ranks:
            tenants = self.waiting[rank]
            if tenants:
                tenant = min(tenants, key=self._served_of)
                return self._taken(rank, tenant, newest=False)
        return None

    def give_way(self, tenant: str, rank: int) -> Place | None:
        """Take the newest of whoever waits most in the lowest class; None when that is no better than this one."""
        for lowest in reversed(range(rank, len(self.waiting))):
            tenants = self.waiting[lowest]
            if tenants:
                most = max(tenants, key=lambda name: len(tenants[name]))
                own = len(tenants.get(tenant, ())) if lowest == rank else -1
                return self._taken(lowest, most, newest=True) if len(tenants[most]) > own + 1 else None
        return None

    def remove(self, waiter: Waiter) -> None:
        rank = self.waits.pop(waiter)
        for tenant, places in self.waiting[rank].items():
            for place in places:
                if place.waiter is waiter:
                    places.remove(place)
                    if not places:
                        del self.waiting[rank][tenant]
                    return

    def overdue(self, now_s: float) -> list[Place]:
        return [
            place
            for tenants in self.waiting
            for places in tenants.values()
            for place in places
            if place.ends_s <= now_s
        ]

    def is_empty(self, *, before_s: float) -> bool:
        """Say whether nobody has been here since that moment."""
        return self.used_s < before_s and not self.seated and not self.waits

    def _taken(self, rank: int, tenant: str, *, newest: bool) -> Place:
        places = self.waiting[rank][tenant]
        place = places.pop() if newest else places.popleft()
        if not places:
            del self.waiting[rank][tenant]
        del self.waits[place.waiter]
        return place

    def _served_of(self, tenant: str) -> float:
        return self._served.get(tenant, self._turn)

    def _lift(self, tenant: str) -> None:
        """Who comes back has saved nothing up meanwhile, and nobody owes for seats that were free."""
        self._served[tenant] = max(self._served.get(tenant, 0.0), self._turn)
        if len(self._served) > _MOST_TENANTS:
            self._served = {name: served for name, served in self._served.items() if served > self._turn}
            self._served.setdefault(tenant, self._turn)


def place_of(request: Request, waiter: Waiter, ends_s: float, now_s: float) -> Place:
    tenant = request.grant.project
    share = request.directory.shares.get(tenant)
    weight = max(1, share.weight) if share is not None else 1
    return Place(waiter, tenant, weight, len(request.body) // _PROMPT_BYTES_A_TOKEN, ends_s, now_s)
