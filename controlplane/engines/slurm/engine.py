"""Runs as Slurm jobs, one each. Slurm places and isolates; who serves is decided by leases."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from controlplane.engines.port import Abilities, EngineState, ObservedRun, RunOrder
from controlplane.engines.slurm import v0_0_42
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.doubt import Doubt
from controlplane.engines.slurm.job import MARK, Job
from controlplane.engines.slurm.rest import SlurmRest, SlurmSaysNo
from controlplane.engines.slurm.shared_look import SharedLook
from controlplane.engines.slurm.submission import Placing, Submission, write_submission
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import Refused, Unavailable

# slurm_errno.h: it was understood and taken, and waits for nodes that are down, or in use by others
ONLY_WAITS = ("Required node not available", "Requested nodes are busy")
# An account or class that the scheduler loop has not made yet, a controller that does not work now, nodes in use.
NOT_YET = ("invalid account", "invalid qos", "standby", "presently disabled", "nodes are busy", "not available (down")
OUR_USERS = "redoubt-"  # every POSIX user whose jobs are runs of ours is called so


class SlurmApi(Protocol):
    """What every version of the REST API is reduced to."""

    async def submit(self, asked: Submission) -> tuple[int, tuple[str, ...]]: ...
    async def list_jobs(self) -> list[Job]: ...
    async def list_nodes(self) -> tuple[str, ...]: ...
    async def signal(self, ref: str, name: str, *, user: str) -> None: ...
    async def cancel(self, ref: str, *, user: str) -> None: ...


VERSIONS: dict[str, Callable[[SlurmRest], SlurmApi]] = {v0_0_42.VERSION: v0_0_42.Api}  # best first


class SlurmEngine:
    """`clock` counts seconds; `folder` exists on every node and belongs to `user`, who runs what names nobody.

    With `commands` it sees its runs also while slurmrestd hangs or does not speak; it starts and stops none then.
    """

    abilities = Abilities(name="slurm", many_nodes=True, isolates_gpus=True, instant_start=False, arrays=True)

    def __init__(
        self,
        socket: Path,
        tokens: Tokens,
        *,
        clock: Callable[[], float],
        user: str = "redoubt-serve",
        partition: str = "inference",
        account: str = "redoubt",
        qos: str = "inference",
        folder: str = "/var/lib/redoubt-serve",
        path: str = "/usr/local/bin:/usr/bin:/bin",
        commands: Commands | None = None,
    ) -> None:
        self._rest = SlurmRest(socket, tokens)
        self._commands = commands
        self._placing = Placing(user, partition, account, qos, folder, path)
        self._clock = clock
        self._api: SlurmApi | None = None
        self._doubt = Doubt(clock)
        self._listed = SharedLook(self._list_jobs, clock=clock)
        self._submitted: dict[str, tuple[Job, float]] = {}  # since the last list began
        self._kill_at: dict[str, float] = {}

    async def start(self, order: RunOrder) -> ObservedRun:
        """Start the run, or return the one that already has this name. Raises Refused or Unavailable."""
        user = order.user or self._placing.user
        known = [job for job in await self._jobs() if (job.name, job.user) == (order.name, user)]
        if known:
            return _latest(known).observed()
        api = await self._version()
        nodes = await api.list_nodes() if len(order.only_nodes) > 1 else ()
        asked = write_submission(order, self._placing, nodes)
        job = await self._submit(api, asked)
        self._submitted[order.name] = (job, self._clock())
        return ObservedRun(order.name, str(job.job_id), EngineState.WAITING, "", "submitted")

    async def observe(self) -> dict[str, ObservedRun]:
        """Return our jobs that Slurm still knows, and kill those that had time enough to stop. Raises Unavailable."""
        jobs = await self._jobs()
        by_name = _by_run(jobs)
        for name, kill_at in tuple(self._kill_at.items()):
            job = by_name.get(name)
            if job is None or job.state is EngineState.ENDED:
                del self._kill_at[name]
            elif self._clock() >= kill_at:
                await self._end(job, "SIGKILL")
        await self._take_back_seconds(jobs)
        return {name: job.observed() for name, job in by_name.items()}

    async def stop(self, name: str, *, grace_s: float) -> None:
        """Send SIGTERM now; `observe` sends SIGKILL once `grace_s` has passed. An array's name stops all of it."""
        named = [job for job in await self._jobs() if name in (job.name, job.run)]
        for job in _by_run(named).values():
            if job.state is not EngineState.ENDED:
                kill_at = self._clock() + grace_s
                self._kill_at[job.run] = min(kill_at, self._kill_at.get(job.run, kill_at))
                await self._end(job, "SIGTERM")

    async def _submit(self, api: SlurmApi, asked: Submission) -> Job:
        try:
            job_id, warnings = await api.submit(asked)
        except SlurmSaysNo as no:
            if any(word in no.detail.lower() for word in NOT_YET):
                raise Unavailable(
                    f"Slurm does not take {asked.name} yet: {no.detail}",
                    remedy="this is tried again; redoubt scheduler show says what Slurm has of accounts and classes",
                    reasons=no.reasons,
                ) from None
            raise Refused(
                f"Slurm refuses {asked.name}: {no.detail}", remedy="ask for what the partition has", reasons=no.reasons
            ) from None
        warnings = tuple(warning for warning in warnings if not any(word in warning for word in ONLY_WAITS))
        if warnings:  # a job that Slurm only half understood may wait for ever
            await api.cancel(str(job_id), user=asked.user)
            raise Refused(
                f"Slurm would run {asked.name} otherwise than asked: {warnings[0]}",
                remedy="compare the version of Slurm with what this engine supports",
                reasons=warnings,
            )
        return Job(
            job_id,
            asked.name,
            asked.user,
            asked.partition,
            frozenset({"PENDING"}),
            "submitted",
            nodes="",
            status=0,
            signal="",
            array=job_id if asked.array else 0,
            tasks=asked.array,
            comment=MARK,
        )

    async def _end(self, job: Job, signal: str) -> None:
        api = await self._version()
        if job.state is EngineState.WAITING:
            await api.cancel(job.ref, user=job.user)
        else:
            await api.signal(job.ref, signal, user=job.user)

    async def _take_back_seconds(self, jobs: list[Job]) -> None:
        """Take out of the queue what was submitted again: its name has had its run. Slurm held it back until now."""
        first: dict[tuple[str, str], int] = {}
        marked = [job for job in jobs if job.comment == MARK]
        for job in marked:
            key = (job.user, job.run)
            first[key] = min(job.job_id, first.get(key, job.job_id))
        for job in marked:
            if job.state is EngineState.WAITING and job.job_id > first[job.user, job.run]:
                with suppress(Unavailable):  # tried again at the next look
                    await self._end(job, "SIGTERM")

    async def _jobs(self) -> list[Job]:
        """Return all jobs and elements of ours, and what was submitted since Slurm was last asked for them."""
        look = await self._listed.get()
        self._submitted = {name: kept for name, kept in self._submitted.items() if kept[1] >= look.began_s}
        listed = {job.job_id for job in look.seen}
        new = [job for job, _at in self._submitted.values() if job.job_id not in listed]
        ours = [job for job in look.seen if not job.was_refused]
        return [element for job in (*ours, *new) for element in job.elements()]

    async def _list_jobs(self) -> list[Job]:
        jobs = [job for job in await self._ask_for_jobs() if job.user.startswith(OUR_USERS)]
        self._doubt.check(jobs)
        return jobs

    async def _ask_for_jobs(self) -> list[Job]:
        try:
            return await (await self._version()).list_jobs()
        except Unavailable as away:
            self._api = None  # it may come back as another version
            if self._commands is None:
                raise
            return await _list_by_command(self._commands, away)

    async def _version(self) -> SlurmApi:
        if self._api is None:
            self._api = VERSIONS[await find_version(self._rest, "slurm", VERSIONS)](self._rest)
        return self._api


async def _list_by_command(commands: Commands, away: Unavailable) -> list[Job]:
    try:
        answer = await commands.read_json("scontrol", "show", "jobs")
    except Unavailable:
        raise away from None  # what is wrong with slurmrestd comes first, and often is the cause of both
    return [v0_0_42.parse_job(job) for job in answer["jobs"]]


async def find_version(rest: SlurmRest, plugin: str, known: Iterable[str]) -> str:
    """Return the best version that slurmrestd and we both speak; raises Unavailable that names what it speaks."""
    paths = (await rest.call("GET", "/openapi/v3")).get("paths", {})
    spoken = sorted({path.split("/")[2] for path in paths if path.startswith(f"/{plugin}/v")})
    for version in known:
        if version in spoken:
            return version
    raise Unavailable(
        f"slurmrestd speaks {', '.join(spoken) or 'nothing'} of {plugin}, and none of {', '.join(known)}",
        remedy="install a Slurm of this bundle, or apply its role slurm again",
    )


def _by_run(jobs: list[Job]) -> dict[str, Job]:
    """Return the latest word on each name; of two with one name, the one that is not over, then the older.

    A name is its first user's: what another one submits under it is none of our runs.
    """
    first: dict[str, Job] = {}
    for job in jobs:
        first[job.name] = min(job, first.get(job.name, job), key=lambda one: one.job_id)
    return {job.run: job for job in sorted(jobs, key=_rank) if job.user == first[job.name].user}


def _latest(jobs: list[Job]) -> Job:
    return max(jobs, key=_rank)


def _rank(job: Job) -> tuple[bool, int]:
    return job.state is not EngineState.ENDED, -job.job_id
