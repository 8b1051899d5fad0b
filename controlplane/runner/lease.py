"""The right to answer clients: lent for seconds, and once over it stays over."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any  # the selector's events are the event loop's own


class Lease:
    """Counts from the moment a renewal was asked for, so that it never outlives what the control plane granted."""

    def __init__(self, length_s: float, clock: Callable[[], float]) -> None:
        self.over_because = ""
        self._length_s = length_s
        self._clock = clock
        self._ends_at: float | None = None
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
        if not self.over_because and self._ends_at is not None and self._clock() >= self._ends_at:
            self.end("the lease could not be renewed in time")
        return not self.over_because

    def end(self, because: str) -> None:
        if self.over_because:
            return
        self.over_because = because
        for act in self._acts:
            act()

    @property
    def left_s(self) -> float:
        return self._length_s if self._ends_at is None else max(0.0, self._ends_at - self._clock())


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
