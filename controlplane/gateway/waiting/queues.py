"""Who goes next when an endpoint is full."""

from typing import Protocol

from controlplane.gateway.errors import Refusal
from controlplane.gateway.request import Request


class Waiter(Protocol):
    """Who waits for a seat."""

    def seated(self) -> None: ...

    def not_seated(self, refusal: Refusal) -> None: ...


class Queues(Protocol):
    """One seat is the right to have one request at the endpoint's replicas."""

    def enter(self, request: Request, waiter: Waiter) -> bool:
        """Return True for a seat at once; otherwise the waiter hears later. Raises Refusal when the queue is full."""
        ...

    def leave(self, request: Request, waiter: Waiter, tokens_out: int) -> None:
        """Give the seat back, or stop waiting for one; so many tokens were completed."""
        ...

    def sweep(self, now_s: float) -> None:
        """Let those go that have waited too long."""
        ...

    def waiting(self) -> dict[str, int]:
        """Return how many wait for each endpoint, by its name."""
        ...


class NoQueues:
    """A seat for everybody."""

    def enter(self, request: Request, waiter: Waiter) -> bool:  # noqa: ARG002 - nobody waits
        return True

    def leave(self, request: Request, waiter: Waiter, tokens_out: int) -> None:
        """Do nothing: there is no end of seats."""

    def sweep(self, now_s: float) -> None:
        """Do nothing: nobody waits."""

    def waiting(self) -> dict[str, int]:
        return {}
