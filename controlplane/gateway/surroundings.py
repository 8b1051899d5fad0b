"""What stands around one exchange: the client that waits for its answer, and the process that it runs in."""

from typing import Protocol

from controlplane.gateway.budget.budgets import Budgets
from controlplane.gateway.directory import Endpoint
from controlplane.gateway.errors import Refusal
from controlplane.gateway.limits import Limits
from controlplane.gateway.meter.metrics import Metrics
from controlplane.gateway.request import Request
from controlplane.gateway.routing.neighbours import Neighbours
from controlplane.gateway.routing.runs import Runs
from controlplane.gateway.spool import Journal
from controlplane.gateway.suspects import Suspects
from controlplane.gateway.waiting.queues import Queues


class Client(Protocol):
    """The client's side of an exchange."""

    deadline: float
    keep_alive: bool
    chunked_answers: bool

    def write(self, data: bytes) -> None: ...

    def answered(self) -> None:
        """The answer is complete; the next request may begin."""
        ...

    def refuse(self, refusal: Refusal, headers: bytes = b"") -> None:
        """Answer with a refusal; nothing of this answer was written yet."""
        ...

    def leave(self) -> None:
        """Send what is written, then close."""
        ...


class Surroundings(Protocol):
    """What an exchange needs of its process."""

    tick: float
    limits: Limits
    journal: Journal
    budgets: Budgets
    queues: Queues
    suspects: Suspects
    runs: Runs
    neighbours: Neighbours
    metrics: Metrics

    def time(self) -> float: ...

    def wall_s(self) -> float:
        """Return seconds since 1970, as the workers of a node share them."""
        ...

    def deny(self, refusal: Refusal, request: Request) -> None:
        """Write down that a known key was refused, if that is what it is."""
        ...

    def endpoint_now(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint as the newest snapshot has it."""
        ...
