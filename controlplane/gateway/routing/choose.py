"""Which replica answers: the one where the prompt is read soonest.

Predicted wait, in bytes of prompt: what waits to be read there, four times what it does not hold of this prompt, and
a little for every running request. So a prompt goes where it was read before until that replica is that much busier.
What no replica knows goes to its home, by rendezvous hashing over its first block, while the home is no busier.
"""

from collections.abc import Sequence
from math import ceil, inf
from typing import Protocol, TypeVar

import msgspec

from controlplane.gateway.routing.prefix import BLOCK_BYTES, MARKED_BYTES, Prefix
from controlplane.gateway.routing.standing import Standing

MISS_WEIGHT = 4  # measured: 1 balances, 4 keeps the hits as well (reference gateway.md, section 5)
RUNNING_BYTES = 512
OVER_BYTES = 64 * 1024  # for every request beyond its part
SESSION_BYTES = BLOCK_BYTES
HOME_BYTES = 64  # among equals
_PART = 1.25  # of the mean; after Mirrokni et al., Consistent Hashing with Bounded Loads, 2018
_SLACK = 8
_RESTING = 1e15
_LATE_WORK = 1 / 2


class Choosable(Protocol):
    """`home_seed` tells replicas apart at every gateway alike."""

    @property
    def standing(self) -> Standing: ...

    @property
    def home_seed(self) -> int: ...


AnyReplica = TypeVar("AnyReplica", bound=Choosable)


class Wish(msgspec.Struct, frozen=True, gc=False):
    """What one request would like. `session` 0 is none; one replica runs `parallel` at once, 0 is not known."""

    prefix: Prefix
    session: int = 0
    parallel: int = 0


class Bid(msgspec.Struct, frozen=True, gc=False):
    """What speaks against a replica, in bytes; the least wins. `held` marks of the prompt are believed to be there."""

    cost: float
    held: int
    home: bool
    session: bool


def choose_replica(replicas: Sequence[AnyReplica], wish: Wish, now: float) -> tuple[AnyReplica, int] | None:
    """Return the best replica and how many marks of the prompt it is believed to hold; None for none at all.

    Equals take turns, by the prompt's home.
    """
    count, marks, session = len(replicas), wish.prefix.marks, wish.session
    part = part_of(replicas, wish.parallel)
    home = find_home(replicas, wish.prefix.home) if marks else None
    best, best_cost, best_held = None, inf, 0
    for turn in range(count):
        replica = replicas[(wish.prefix.home + turn) % count]
        standing = replica.standing
        held = standing.mirror.held(marks) if marks else 0
        cost = cost_of(standing, wish, held, part, now)
        if replica is home:
            cost -= HOME_BYTES
        if session and standing.mirror.knows(session):
            cost -= SESSION_BYTES
        if cost < best_cost or best is None:
            best, best_cost, best_held = replica, cost, held
    return None if best is None else (best, best_held)


def bid_of(replica: Choosable, wish: Wish, part: int, now: float, *, is_home: bool) -> Bid:
    """Return what a choice would weigh, for those who ask why."""
    mirror = replica.standing.mirror
    held = mirror.held(wish.prefix.marks)
    session = wish.session != 0 and mirror.knows(wish.session)
    cost = cost_of(replica.standing, wish, held, part, now) - HOME_BYTES * is_home - SESSION_BYTES * session
    return Bid(cost, held, is_home, session)


def cost_of(standing: Standing, wish: Wish, held: int, part: int, now: float) -> float:
    """Return what speaks against a replica by itself. One that rests comes after all others."""
    prefix, running = wish.prefix, standing.running + standing.running_elsewhere
    cost: float = standing.prefilling + standing.prefilling_elsewhere + RUNNING_BYTES * running
    cost += MISS_WEIGHT * (prefix.size - MARKED_BYTES[held])
    if prefix.marks:
        cost += _LATE_WORK * standing.worked(now)
    if standing.warm_from > now:
        warmth = standing.warmth(now)
        cost, part = cost / warmth, ceil(part * warmth)
    if running >= part:
        cost += OVER_BYTES * (running + 1 - part)
    return cost + _RESTING if standing.rests_until > now else cost


def find_home(replicas: Sequence[AnyReplica], key: int) -> AnyReplica | None:
    """Return where a prompt belongs that nobody holds; when a replica goes, its own prompts alone move."""
    return max(replicas, key=lambda replica: hash((replica.home_seed, key)), default=None)


def part_of(replicas: Sequence[Choosable], parallel: int) -> int:
    """Return how many requests one replica may run before it counts as busier than the others."""
    running = 1
    for replica in replicas:
        running += replica.standing.running + replica.standing.running_elsewhere
    part = ceil(_PART * running / (len(replicas) or 1)) + _SLACK
    return min(part, parallel) if parallel else part
