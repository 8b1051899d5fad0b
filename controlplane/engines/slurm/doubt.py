"""Whether a list of jobs is to be believed.

While a second slurmctld takes over or hands back, slurmrestd answers with an empty list and says that all is well.
Slurm keeps a job that ended for minutes (MinJobAge), so one that ran a moment ago and is in no list is no news of it.
"""

from collections.abc import Callable, Iterable

from controlplane.engines.port import EngineState
from controlplane.engines.slurm.job import Job
from controlplane.kit.errors import Unavailable

DOUBT_S = 60.0  # a slurmctld that was killed may really have forgotten what it took in its last seconds


class Doubt:
    """Remembers which jobs ran when last believed. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ran: frozenset[int] = frozenset()
        self._since: float | None = None

    def check(self, jobs: Iterable[Job]) -> None:
        """Raise Unavailable when jobs are missing that ran, for a minute at most; else believe the list."""
        listed = {job.job_id: job.state for job in jobs}
        missing = self._ran - listed.keys()
        if missing:
            since = self._clock() if self._since is None else self._since
            self._since = since
            if self._clock() - since < DOUBT_S:
                raise Unavailable(
                    f"Slurm does not list {len(missing)} jobs that ran a moment ago, such as {min(missing)}",
                    remedy="on the controllers look at: scontrol ping; this is tried again",
                )
        self._since = None
        self._ran = frozenset(job_id for job_id, state in listed.items() if state is EngineState.RUNNING)
