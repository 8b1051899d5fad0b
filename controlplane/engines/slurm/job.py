"""A job as the engine sees it, whatever version of the REST API told it."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Job:
    """`states` are Slurm's words: one base state and its flags; `signal` is "" and `status` 0 unless it ended so."""

    job_id: int
    name: str
    user: str
    partition: str
    states: frozenset[str]
    reason: str
    nodes: str
    status: int
    signal: str

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

    def observed(self) -> ObservedRun:
        return ObservedRun(self.name, str(self.job_id), self.state, self.nodes, self._why())

    def _why(self) -> str:
        words = ["+".join(sorted(self.states)).lower()]
        if self.reason not in {"", "None"}:
            words.append(self.reason)
        if self.signal:
            words.append(f"killed by {self.signal}")
        elif self.state is EngineState.ENDED:
            words.append(f"ended with status {self.status}")
        return ", ".join(words)
