"""Budgets at the moment of execution: a request holds what it may use before it is sent anywhere."""

from typing import Protocol

from controlplane.gateway.errors import Refusal
from controlplane.gateway.meter.usage import Usage
from controlplane.gateway.records import Amount
from controlplane.gateway.request import Request


class Asking(Protocol):
    """Who waits for a hold."""

    def cleared(self, hold: "Hold") -> None: ...

    def not_cleared(self, refusal: Refusal) -> None: ...

    def renews(self) -> bool:
        """Say whether it is still under way, so that its hold may go on."""
        ...

    def hold_over(self) -> None:
        """Stop: the hold has ended."""
        ...


class Hold(Protocol):
    """What one request may use of every budget above it, until `ends_at_s` of the loop's time.

    `most_tokens` bounds each completion. `amounts` are durable with the intent, `left` is the header for the client.
    """

    most_tokens: int
    ends_at_s: float
    retry: bool

    @property
    def amounts(self) -> tuple[Amount, ...]: ...

    @property
    def left(self) -> bytes:
        """Return whole header lines that say what is left of the budgets; b"" without budgets."""
        ...

    def settle(self, usage: Usage) -> tuple[Amount, ...]:
        """Give back what was not used; return what was spent. The second time it returns the same and does nothing."""
        ...


class Budgets(Protocol):
    def clear(self, request: Request, asking: Asking) -> Hold | None:
        """Return a hold, or None when `asking` will hear later. Raises Refusal; then no scope has lost anything."""
        ...

    def sweep(self, now_s: float) -> None:
        """Renew the holds of requests that stream, end those that cannot be renewed."""
        ...


class NoHold:
    """A hold where no budget is declared."""

    ends_at_s = float("inf")
    amounts: tuple[Amount, ...] = ()
    left = b""
    retry = False

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens

    def settle(self, usage: Usage) -> tuple[Amount, ...]:  # noqa: ARG002 - nothing was held
        return ()


def unbudgeted(request: Request) -> NoHold:
    """Return the hold of a request that no budget binds: its endpoint's context alone bounds it."""
    asked, context = request.ask.completion_tokens, request.endpoint.context_tokens
    return NoHold(context if asked is None else min(asked, context))


class NoBudgets:
    """Bounds every request by its endpoint's context alone."""

    def clear(self, request: Request, asking: Asking) -> Hold | None:  # noqa: ARG002 - decided at once
        return unbudgeted(request)

    def sweep(self, now_s: float) -> None:
        """Do nothing: nothing ends."""
