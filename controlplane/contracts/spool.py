"""What a gateway writes down of every request, and how it tells the control plane. Never prompt text.

A spool is one chain of lines of canonical JSON. Each names the SHA-256 of the line before it, the first 64 zeros.
A field that has a default is left out of its line when it says nothing more than that.
"""

from typing import Annotated, Literal

from pydantic import Field

from controlplane.contracts.strict import Answer, Strict

FIRST_PREV = "0" * 64
MOST_LINES = 400  # in one shipment: some 250 KB, one transaction of a fraction of a second
MOST_BYTES = 256 * 1024

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(max_length=120)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Amount = tuple[Word, Count]  # of one account: "budget", or "budget/name" where each name has its own
Amounts = Annotated[tuple[Amount, ...], Field(max_length=64)]


class Line(Strict):
    """`at_us` is the gateway's own time, microseconds since 1970."""

    at_us: Count
    prev: Digest
    seq: Count
    v: Literal[1]


class Opened(Line):
    """The first line: which worker of which node writes."""

    kind: Literal["opened"]
    node: Word


class Intent(Line):
    """Durable before a replica hears of the request. `source` is the client's address."""

    bytes_in: Count
    classification: Annotated[int, Field(ge=0, le=3)]
    endpoint: Word
    key: Word
    kind: Literal["intent"]
    policy: Annotated[str, Field(max_length=64)]
    project: Word
    purpose: Word
    request: Word
    revision: Word
    secret: Word
    snapshot: Count
    source: Word
    streamed: bool
    zone: Word
    agent: Word = ""
    held: Amounts = ()
    priority: Word = ""
    retry: bool = False
    run: Word = ""
    step: Word = ""
    surface: Word = ""
    workflow: Word = ""


class Outcome(Line):
    """`unknown`: the gateway died before the end; `status` 0: nothing was answered; tokens where the replica told.

    `estimated` tokens are counted by the gateway, from events and bytes: the client left before the replica told.

    Times are microseconds. `ttft_us` is from the request to its first event, `itl_` the time between two events.
    `gpu_us` is its part of the time of the replica's GPUs. `spent` never exceeds what its intent held.
    """

    bytes_out: Count
    code: Word
    duration_us: Count
    endpoint: Word
    key: Word
    kind: Literal["outcome"]
    project: Word
    replica: Word
    request: Word
    result: Literal["answered", "failed", "cancelled", "unknown"]
    status: Annotated[int, Field(ge=0, le=599)]
    tokens_in: Count | None
    tokens_out: Count | None
    agent: Word = ""
    context_tokens: Count = 0
    estimated: bool = False
    finish: Word = ""
    gpu_us: Count = 0
    itl_p50_us: Count | None = None
    itl_p99_us: Count | None = None
    model: Word = ""
    priority: Word = ""
    queue_us: Count = 0
    retries: Count = 0
    revision: Word = ""
    run: Word = ""
    spent: Amounts = ()
    step: Word = ""
    surface: Word = ""
    tokens_cached: Count | None = None
    tokens_reasoning: Count | None = None
    ttft_us: Count | None = None
    workflow: Word = ""
    zone: Word = ""


class Denial(Line):
    """A request of a known key that the gateway refused; `times` since the last line of the same key and code."""

    code: Word
    key: Word
    kind: Literal["denied"]
    policy: Annotated[str, Field(max_length=64)]
    project: Word
    request: Word
    secret: Word
    source: Word
    times: Annotated[int, Field(ge=1)]


class Closed(Line):
    """The last line: every intent above has its outcome."""

    kind: Literal["closed"]


AnyLine = Annotated[Opened | Intent | Outcome | Denial | Closed, Field(discriminator="kind")]


class ShipSpool(Strict):
    """Lines as they stand in the spool, from `first` on. None asks where to begin."""

    boot: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    first: Count
    lines: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=MOST_LINES)]


class SpoolTaken(Answer):
    """`next_seq` is the number of the line that the control plane wants next."""

    next_seq: int
