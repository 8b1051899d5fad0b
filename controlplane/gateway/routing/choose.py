"""Which replica answers: the one with the fewest running requests, in turn among equals."""

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar


class Choosable(Protocol):
    """`rests_until` is later than now for a replica that could not be reached a moment ago."""

    @property
    def running(self) -> int: ...

    @property
    def rests_until(self) -> float: ...


AnyReplica = TypeVar("AnyReplica", bound=Choosable)


def choose_replica(
    replicas: Sequence[AnyReplica], *, turn: int, now: float, avoid: Collection[AnyReplica] = ()
) -> AnyReplica | None:
    """Return the best replica that is not avoided, a resting one only when no other is left."""
    if len(replicas) == 1 and not avoid:
        return replicas[0]
    best: AnyReplica | None = None
    best_rank = (True, 0)
    for step in range(len(replicas)):
        replica = replicas[(turn + step) % len(replicas)]
        rank = (replica.rests_until > now, replica.running)
        if (best is None or rank < best_rank) and replica not in avoid:
            best, best_rank = replica, rank
    return best
