"""An engine at the port that behaves like Slurm: it queues, places as it likes, preempts, requeues, and can fail."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from controlplane.domains.shares.rules import may_preempt
from controlplane.engines.port import Abilities, EngineState, ObservedRun, RunOrder
from controlplane.kit.errors import Unavailable
from tests.support.control_plane import TestClock

PRIORITIES = {
    "inference": 1000, "inference-over": 800, "interactive": 600, "interactive-over": 500, "training": 400,
    "training-over": 200,
}  # fmt: skip


@dataclass
class Job:
    """One run of ours, as the scheduler keeps it."""

    order: RunOrder
    number: int
    state: EngineState = EngineState.WAITING
    node: str = ""
    gpus: tuple[int, ...] = ()
    started_at: datetime | None = None
    restarts: int = 0
    reason: str = "Priority"


@dataclass
class SlurmLike:
    """`fault` is "" or how the next calls fail: "away" does nothing, "lost" does it and loses the answer."""

    clock: TestClock
    random: Random
    nodes: dict[str, int]
    limits: dict[str, int] = field(default_factory=dict)  # GPUs at most of an account
    abilities: Abilities = field(default=Abilities("like", many_nodes=True, isolates_gpus=True, instant_start=False))
    jobs: dict[str, Job] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    fault: str = ""

    async def start(self, order: RunOrder) -> ObservedRun:
        self._answer()
        job = self.jobs.setdefault(order.name, Job(order, len(self.jobs)))
        self._lose()
        return _observed(job)

    async def observe(self) -> dict[str, ObservedRun]:
        self._answer()
        return {name: _observed(job) for name, job in self.jobs.items()}

    async def stop(self, name: str, *, grace_s: float) -> None:
        self._answer()
        del grace_s
        self.end(name, "CANCELLED")
        self._lose()

    def tick(self) -> None:
        """End what is beyond its time, then place what waits, the highest class first."""
        now = self.clock.now()
        for name, job in self.jobs.items():
            if job.started_at and now - job.started_at > timedelta(seconds=job.order.time_limit_s):
                self.end(name, "TIMEOUT")
        waiting = [job for job in self.jobs.values() if job.state == EngineState.WAITING]
        for job in sorted(waiting, key=lambda job: (-PRIORITIES[job.order.qos], job.number)):
            self._place(job)

    def end(self, name: str, reason: str) -> None:
        job = self.jobs.get(name)
        if job is not None and job.state != EngineState.ENDED:
            job.state, job.reason, job.started_at = EngineState.ENDED, reason, None

    def requeue(self, name: str, reason: str) -> None:
        """Let a run wait again if it may, else end it."""
        job = self.jobs[name]
        if not job.order.requeues:
            self.end(name, reason)
            return
        job.state, job.node, job.gpus, job.started_at = EngineState.WAITING, "", (), None
        job.restarts, job.reason = job.restarts + 1, reason

    def lose_node(self, node: str) -> None:
        self.down.add(node)
        for name in [name for name, job in self.jobs.items() if job.node == node and self.runs(name)]:
            self.requeue(name, "NODE_FAIL")

    def bring_back(self, node: str, gpus: int) -> None:
        self.nodes[node] = gpus
        self.down.discard(node)

    def forget(self) -> None:
        """Forget what ended long ago, as a scheduler does."""
        self.jobs = {name: job for name, job in self.jobs.items() if job.state != EngineState.ENDED}

    def runs(self, name: str) -> bool:
        return name in self.jobs and self.jobs[name].state == EngineState.RUNNING

    def _place(self, job: Job) -> None:
        order = job.order
        account = sum(
            len(other.gpus)
            for name, other in self.jobs.items()
            if self.runs(name) and other.order.account == order.account
        )
        if account + order.gpus > self.limits.get(order.account, 1 << 20):
            job.reason = "AssocGrpGRES"
            return
        names = [name for name in self.nodes if name not in self.down and name not in order.avoid_nodes]
        self.random.shuffle(names)
        for node in sorted(names, key=lambda node: len(self._victims(job, node) or ())):
            victims = self._victims(job, node)
            if victims is None:
                continue
            for name in victims:
                self.requeue(name, "PREEMPTED")
            free = self._free(node)
            self.random.shuffle(free)
            job.state, job.node, job.gpus, job.reason = EngineState.RUNNING, node, tuple(free[: order.gpus]), ""
            job.started_at = self.clock.now()
            return
        job.reason = "Resources"

    def _victims(self, job: Job, node: str) -> list[str] | None:
        """Return whom it would have to preempt on a node, None when even that is not enough."""
        missing, chosen = job.order.gpus - len(self._free(node)), list[str]()
        for name, other in self.jobs.items():
            if missing > 0 and self.runs(name) and other.node == node and may_preempt(job.order.qos, other.order.qos):
                chosen.append(name)
                missing -= len(other.gpus)
        return chosen if missing <= 0 else None

    def _free(self, node: str) -> list[int]:
        taken = {gpu for name, job in self.jobs.items() if self.runs(name) and job.node == node for gpu in job.gpus}
        return [gpu for gpu in range(self.nodes[node]) if gpu not in taken]

    def _answer(self) -> None:
        if self.fault == "away":
            raise Unavailable("the engine does not answer", remedy="wait")

    def _lose(self) -> None:
        if self.fault == "lost":
            raise Unavailable("the answer was lost", remedy="wait")


def _observed(job: Job) -> ObservedRun:
    return ObservedRun(
        name=job.order.name, ref=str(job.number), state=job.state, node=job.node, reason=job.reason,
        gpu_indexes=job.gpus, started_at=job.started_at, restarts=job.restarts,
    )  # fmt: skip
