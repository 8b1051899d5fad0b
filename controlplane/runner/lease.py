"""The right to answer clients: lent for seconds, in doubt without news, and once over it stays over."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any  # the selector's events are the event loop's own


class Lease:
    """Counts from the moment a renewal was asked for, so that it never outlives what the control plane granted.

    A lease that could not be renewed is in doubt, not over: the control plane may be away while gateways still serve,
    and a run in doubt asks again before it takes a new connection. It is over when the control plane says so, or when
    it ran out while this process was frozen and could not ask.
    """

    def __init__(self, length_s: float, clock: Callable[[], float]) -> None:
        self.over_because = ""
        self._length_s = length_s
        self._clock = clock
        self._ends_at: float | None = None
        self._looked_at = clock()
        self._acts: list[Callable[[], None]] = []

    def when_over(self, act: Callable[[], None]) -> None:
        """Call `act` at the instant at which the lease is known to be over."""
        self._acts.append(act)

    def now(self) -> float:
        return self._clock()

    def renew(self, asked_at: float) -> None:
        if self.holds():
            self._ends_at = asked_at + self._length_s

    def holds(self) -> bool:
        """Say whether this run may still answer; the first no fences it before this returns."""
        now = self._clock()
        slept_s, self._looked_at = now - self._looked_at, now
        if self.in_doubt and slept_s > self._length_s / 2:
            self.end(f"the lease ran out while this process was frozen for {slept_s:.1f} s")
        return not self.over_because

    @property
    def in_doubt(self) -> bool:
        """Say whether the last renewal is older than the lease is long."""
        return self._ends_at is not None and self._clock() >= self._ends_at

    def end(self, because: str) -> None:
        if self.over_because:
            return
        self.over_because = because
        for act in self._acts:
            act()


class _GuardedSelector(selectors.EpollSelector):
    """Asks the lease each time the process wakes, before any socket is read or any waiting byte is written."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        events = super().select(timeout)
        self._lease.holds()
        return events


def guarded_loop(lease: Lease) -> asyncio.AbstractEventLoop:
    """Make an event loop that fences first: a run that was frozen past its lease sends nothing when it wakes."""
    return asyncio.SelectorEventLoop(_GuardedSelector(lease))
