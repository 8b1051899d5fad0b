"""Runs as Slurm jobs, one each. Slurm places and isolates; who serves is decided by leases."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from controlplane.engines.port import Abilities, EngineState, ObservedRun, RunOrder
from controlplane.engines.slurm import v0_0_42
from controlplane.engines.slurm.job import Job
from controlplane.engines.slurm.rest import SlurmRest, SlurmSaysNo
from controlplane.engines.slurm.submission import Placing, Submission, write_submission
from controlplane.kit.errors import Refused, Unavailable


class SlurmApi(Protocol):
    """What every version of the REST API is reduced to."""

    async def submit(self, asked: Submission) -> tuple[int, tuple[str, ...]]: ...
    async def list_jobs(self) -> list[Job]: ...
    async def signal(self, job_id: int, name: str) -> None: ...
    async def cancel(self, job_id: int) -> None: ...


VERSIONS: dict[str, Callable[[SlurmRest], SlurmApi]] = {v0_0_42.VERSION: v0_0_42.Api}  # best first


class SlurmEngine:
    """`clock` counts seconds; `folder` exists on every node and belongs to `user`."""

    abilities = Abilities(name="slurm", many_nodes=True, isolates_gpus=True, instant_start=False)

    def __init__(
        self,
        socket: Path,
        token_file: Path,
        *,
        clock: Callable[[], float],
        user: str = "redoubt-serve",
        partition: str = "inference",
        account: str = "redoubt",
        qos: str = "serving",
        folder: str = "/var/lib/redoubt-serve",
        path: str = "/usr/local/bin:/usr/bin:/bin",
    ) -> None:
        self._rest = SlurmRest(socket, token_file, user)
        self._placing = Placing(partition, account, qos, folder, path)
        self._user = user
        self._clock = clock
        self._api: SlurmApi | None = None
        self._kill_at: dict[str, float] = {}

    async def start(self, order: RunOrder) -> ObservedRun:
        """Start the run, or return the one that already has this name. Raises Refused or Unavailable."""
        if (known := (await self._own_jobs()).get(order.name)) is not None:
            return known.observed()
        api = await self._version()
        try:
            job_id, warnings = await api.submit(write_submission(order, self._placing))
        except SlurmSaysNo as no:
            raise Refused(
                f"Slurm refuses {order.name}: {no.detail}", remedy="ask for what the partition has", reasons=no.reasons
            ) from None
        if warnings:  # a job that Slurm only half understood may wait for ever
            await api.cancel(job_id)
            raise Refused(
                f"Slurm would run {order.name} otherwise than asked: {warnings[0]}",
                remedy="compare the version of Slurm with what this engine supports",
                reasons=warnings,
            )
        return ObservedRun(order.name, str(job_id), EngineState.WAITING, "", "submitted")

    async def observe(self) -> dict[str, ObservedRun]:
        """Return our jobs that Slurm still knows, and kill those that had time enough to stop. Raises Unavailable."""
        jobs = await self._own_jobs()
        for name, kill_at in tuple(self._kill_at.items()):
            job = jobs.get(name)
            if job is None or job.state is EngineState.ENDED:
                del self._kill_at[name]
            elif self._clock() >= kill_at:
                await self._end(job, "SIGKILL")
        return {name: job.observed() for name, job in jobs.items()}

    async def stop(self, name: str, *, grace_s: float) -> None:
        """Send SIGTERM now; `observe` sends SIGKILL once `grace_s` has passed."""
        job = (await self._own_jobs()).get(name)
        if job is None or job.state is EngineState.ENDED:
            return
        kill_at = self._clock() + grace_s
        self._kill_at[name] = min(kill_at, self._kill_at.get(name, kill_at))
        await self._end(job, "SIGTERM")

    async def _end(self, job: Job, signal: str) -> None:
        api = await self._version()
        if job.state is EngineState.WAITING:
            await api.cancel(job.job_id)
        else:
            await api.signal(job.job_id, signal)

    async def _own_jobs(self) -> dict[str, Job]:
        """Return the latest word on each name; of two with one name, the one that is not over, then the older."""
        listed = await (await self._version()).list_jobs()
        ours = [job for job in listed if (job.user, job.partition) == (self._user, self._placing.partition)]
        ranked = sorted(ours, key=lambda job: (job.state is not EngineState.ENDED, -job.job_id))
        return {job.name: job for job in ranked if not job.was_refused}

    async def _version(self) -> SlurmApi:
        if self._api is None:
            paths = (await self._rest.call("GET", "/openapi/v3")).get("paths", {})
            spoken = [version for version in VERSIONS if any(path.startswith(f"/slurm/{version}/") for path in paths)]
            if not spoken:
                raise Unavailable(
                    f"slurmrestd speaks none of {', '.join(VERSIONS)}", remedy="install a Slurm of this bundle"
                )
            self._api = VERSIONS[spoken[0]](self._rest)
        return self._api
