"""What the scheduler ought to have, what it has, and what was used of the GPUs."""

from typing import Literal

from pydantic import AwareDatetime

from controlplane.contracts.strict import Answer, Strict

By = Literal["project", "type", "node", "job"]
RequestsBy = Literal[
    "project", "team", "workflow", "agent", "run", "model", "endpoint", "key", "zone", "day", "hour"
]  # fmt: skip


class SchedulerThing(Answer):
    """`state` is "right", "change" (the next step makes it so), "drift" (another hand changed it) or "foreign"."""

    kind: str
    name: str
    state: str
    what: str


class DriftedThing(Answer):
    """`hands` is what the scheduler tells of who did it, oldest first; it may know nothing."""

    kind: str
    name: str
    what: str
    hands: tuple[str, ...]


class SchedulerView(Answer):
    """`read_at` is None until the scheduler was read once; `error` says why it could not be read since."""

    read_at: AwareDatetime | None
    error: str
    things: tuple[SchedulerThing, ...]
    changes: tuple[str, ...]
    drift: tuple[DriftedThing, ...]
    failures: tuple[str, ...]


class AskApply(Strict):
    """`takes_over` also ends the drift that there is when this is asked; what drifts after it stays."""

    takes_over: bool = False


class Apply(Answer):
    """`done_at` is None until the reconciler took its next step."""

    id: str
    asked_by: str
    asked_at: AwareDatetime
    takes_over: bool
    over: tuple[str, ...]
    done_at: AwareDatetime | None
    changes: tuple[str, ...]
    failures: tuple[str, ...]


class UsageRow(Answer):
    key: str
    gpu_seconds: int
    starts: int
    running: int


class RequestsRow(Answer):
    """Of `untold` requests the replica told no tokens, they may be estimated; cached ones are among `tokens_in`.

    Means are over the requests that have one: seconds in the queue, and to the first token of a stream.
    """

    key: str
    calls: int
    failures: int
    untold: int
    retries: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    tokens_reasoning: int
    gpu_seconds: float
    queue_s: float
    first_token_s: float | None


class RequestsUsage(Answer):
    """What requests of inference used, by the hours in which they ended: those that begin from `since` to `until`.

    Hours before `known_since` are kept no longer: their days count whole, and `since` and `until` are theirs then. By
    run nothing before `known_since` is known, and `since` is not before it.
    The first rows: most tokens first, days and hours in their order. `more` follow, from `cursor` on.
    """

    by: RequestsBy
    project: str
    since: AwareDatetime
    until: AwareDatetime
    known_since: AwareDatetime
    rows: tuple[RequestsRow, ...]
    more: int = 0
    cursor: str | None = None


class Usage(Answer):
    """`known_until` is when the accounting was last asked; None where it never was."""

    by: By
    project: str
    since: AwareDatetime
    until: AwareDatetime
    known_until: AwareDatetime | None
    rows: tuple[UsageRow, ...]
