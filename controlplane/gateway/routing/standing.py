"""How one replica stands, as far as this process knows: what it does, what it holds, whether it fails."""

from array import array
from collections.abc import Iterable
from typing import Final, TypeAlias

from controlplane.gateway.routing.mirror import Mirror

_LONGEST_REST_S = 30.0
_WARM_UP_S = 30.0
_ERRORS_IN_A_ROW = 3
_WORK_FADES_S = 20.0
_NOWHERE: Final = -1
Cells: TypeAlias = "memoryview[int] | array[int]"


class Standing:
    """`running` requests are there; `prefilling` bytes of prompts wait to be read. Times are the loop's.

    What other workers of the node have there comes on top, as it was when it was counted last.
    """

    __slots__ = (
        "_cells",
        "_errors",
        "_failures",
        "_own",
        "_worked",
        "_worked_at",
        "column",
        "counted_at",
        "mirror",
        "prefilling",
        "prefilling_elsewhere",
        "rests_until",
        "running",
        "running_elsewhere",
        "warm_from",
    )

    def __init__(self, *, warm_from: float = 0.0) -> None:
        self.running = 0
        self.prefilling = 0
        self.rests_until = 0.0
        self.warm_from = warm_from
        self.counted_at = 0.0
        self.running_elsewhere = 0
        self.prefilling_elsewhere = 0
        self.mirror = Mirror()
        self._cells: Cells
        self.unshare()
        self._failures = 0
        self._errors = 0
        self._worked = 0.0
        self._worked_at = 0.0

    def share(self, cells: Cells, own: int, column: int) -> None:
        """Tell in one row of these cells what is here, and count what stands in others."""
        self._cells, self._own, self.column = cells, own + column, column
        self.tell()

    def unshare(self) -> None:
        """Tell nobody."""
        self._cells = array("q", (0, 0))
        self._own, self.column = 0, _NOWHERE
        self.count(())

    def tell(self) -> None:
        """Say what is here now."""
        own, cells = self._own, self._cells
        cells[own] = self.running
        cells[own + 1] = self.prefilling

    def count(self, rows: Iterable[int]) -> None:
        """Add up what the workers of these rows have here."""
        cells, column = self._cells, self.column
        running = prefilling = 0
        if column != _NOWHERE:
            for row in rows:
                running += cells[row + column]
                prefilling += cells[row + column + 1]
        self.running_elsewhere = running
        self.prefilling_elsewhere = prefilling

    def warmth(self, now: float) -> float:
        """Return how much of its share a replica may have that is young, from 0.1 up to 1."""
        left = self.warm_from - now
        return 1.0 if left <= 0 else max(0.1, 1 - left / _WARM_UP_S)

    def worked(self, now: float) -> float:
        """Return the bytes it had to read lately; what is longer ago counts less."""
        elapsed = now - self._worked_at
        return self._worked * max(0.0, 1 - elapsed / _WORK_FADES_S)

    def work(self, new_bytes: int, now: float) -> None:
        self._worked = self.worked(now) + new_bytes
        self._worked_at = now

    def failed(self, now: float, rest_s: float) -> None:
        """Rest, twice as long with every failure in a row."""
        self.rests_until = now + min(_LONGEST_REST_S, rest_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)

    def erred(self, now: float, rest_s: float) -> None:
        """Rest after some failures in a row: one alone may be the request's own fault."""
        self._errors += 1
        if self._errors >= _ERRORS_IN_A_ROW:
            self.failed(now, rest_s)

    def succeeded(self) -> None:
        self._failures = self._errors = 0
        self.rests_until = 0.0


def warm_from(now: float, ready_for_s: float) -> float:
    """Return when a replica that has been ready so long gets its full share."""
    return now + _WARM_UP_S - ready_for_s
