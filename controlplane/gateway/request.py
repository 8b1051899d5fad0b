"""One request as it is known before anything is done about it."""

from typing import TYPE_CHECKING

import msgspec

from controlplane.contracts.snapshot import Priority

if TYPE_CHECKING:
    from controlplane.gateway.directory import Directory, Endpoint, Grant, Terms
    from controlplane.gateway.surface.surface import Ask, Surface


class Work(msgspec.Struct, frozen=True, gc=False):
    """What a request says it is a part of, by its headers; "" where it says nothing.

    `deadline_s` is how long the client waits, 0 for as long as it takes.
    """

    workflow: str = ""
    agent: str = ""
    run: str = ""
    step: str = ""
    deadline_s: float = 0.0
    priority: Priority = "interactive"


NO_WORK = Work()


class Request(msgspec.Struct, frozen=True, gc=False):
    """`at_us` is wall time, `began_s` the loop's; `directory` is the one that admitted it."""

    request_id: bytes
    source: str
    at_us: int
    began_s: float
    directory: "Directory"
    grant: "Grant"
    terms: "Terms"
    work: Work
    surface: "Surface"
    ask: "Ask"
    body: bytes
    endpoint: "Endpoint"
