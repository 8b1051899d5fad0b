"""A job as the engine sees it, whatever version of the REST API told it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.engines.port import EngineState, ObservedRun

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "TIMEOUT",
    }
)
MARK = "redoubt run"  # users of ours have other jobs as well: the isolation proof's all have one name
GPU_INDEXES = re.compile(r"^gpu\b[^(]*\(IDX:([0-9,-]+)\)")


@dataclass(frozen=True)
class Job:
    """`states` are Slurm's words: one base state and its flags; `signal` is "" and `status` 0 unless it ended so.

    `array` is the number of the array that it belongs to, 0 for none, and `tasks` which elements of it this is. Times
    that Slurm only expects are left out. `comment` is MARK when the engine submitted it.
    """

    job_id: int
    name: str
    user: str
    partition: str
    states: frozenset[str]
    reason: str
    nodes: str
    status: int
    signal: str
    gpu_indexes: tuple[int, ...] = ()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    restarts: int = 0
    array: int = 0
    tasks: str = ""
    comment: str = ""

    @property
    def run(self) -> str:
        """Return the name of its run."""
        return f"{self.name}.{self.tasks}" if self.array else self.name

    @property
    def ref(self) -> str:
        """Return what Slurm calls it: an element of an array may have no number of its own yet."""
        return f"{self.array}_{self.tasks}" if self.array else str(self.job_id)

    @property
    def was_refused(self) -> bool:
        """Slurm keeps a failed job of every refused submission: nothing of it ever ran."""
        return "FAILED" in self.states and self.reason == "BadConstraints"

    @property
    def state(self) -> EngineState:
        """Map Slurm's words; a word that we do not know counts as running, because then nothing is started twice."""
        if "COMPLETING" in self.states:  # its processes may still live
            return EngineState.RUNNING
        if self.states & WAITING:
            return EngineState.WAITING
        return EngineState.ENDED if self.states & ENDED else EngineState.RUNNING

    @property
    def _is_ending_a_start(self) -> bool:
        """Slurm counts the next start as soon as it requeues, while the last one may still live."""
        return "COMPLETING" in self.states and bool(self.states & WAITING) and self.restarts > 0

    def elements(self) -> Iterator["Job"]:
        """Yield this job, or one for each element of an array that it stands for."""
        if self.array and not self.tasks.isdecimal():
            yield from (replace(self, tasks=str(index)) for index in read_indexes(self.tasks))
        else:
            yield self

    def observed(self) -> ObservedRun:
        state = self.state
        return ObservedRun(
            self.run,
            self.ref,
            state,
            self.nodes,
            self._why(),
            gpu_indexes=self.gpu_indexes if state is not EngineState.WAITING else (),
            started_at=self.started_at if state is not EngineState.WAITING else None,
            ended_at=self.ended_at if state is EngineState.ENDED else None,
            restarts=self.restarts - self._is_ending_a_start,
            status=self.status,
        )

    def _why(self) -> str:
        words = ["+".join(sorted(self.states)).lower()]
        if self.reason not in {"", "None"}:
            words.append(self.reason)
        if self.signal:
            words.append(f"killed by {self.signal}")
        elif self.state is EngineState.ENDED:
            words.append(f"ended with status {self.status}")
        return ", ".join(words)


def read_indexes(text: str) -> Iterator[int]:
    """Yield 0, 1, 2, 5 for "0-2,5", and for "0-2,5%2" as well: how many run at once is no element."""
    for part in text.partition("%")[0].split(","):
        bounds, _, step = part.partition(":")
        first, _, last = bounds.partition("-")
        if first.isdecimal():
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def read_gpu_indexes(details: list[str]) -> tuple[int, ...]:
    """Return 0 and 2 for ["gpu:h100:2(IDX:0,2)"], which is how Slurm says which devices of a node a job has."""
    found = [match[1] for detail in details if (match := GPU_INDEXES.match(detail))]
    return tuple(index for indexes in found for index in read_indexes(indexes))
