"""Convergence of jobs: hand them to the engine once, and keep our books like what it says runs.

Killed anywhere, the next round finishes: a name starts once, a lease begins and ends with the row of its start, and a
command runs only after its start was let in (see `service.starts`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest

import structlog

from controlplane.contracts.jobs import JobSpec
from controlplane.domains.allocation.types import Admission
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.jobs import rules, store
from controlplane.domains.jobs.loops import settling
from controlplane.domains.jobs.service import asks, starts
from controlplane.domains.jobs.tables import Job, JobRun
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Share
from controlplane.engines.port import EndWarning, Engine, EngineState, ObservedRun, RunOrder
from controlplane.kit.errors import NotFound, RedoubtError, Refused, Unavailable
from controlplane.kit.tx import Database, Tx

log = structlog.get_logger()

PREFIX = "job_"
STARTS_A_ROUND = 50
SWEPT_A_ROUND = 20
STOP_GRACE_S = 30.0
STOP_AGAIN_AFTER_S = 60.0  # an engine that forgot a stop, because it was restarted, is told again
PROJECT_OUTPUT_BYTES = 10 * 1024**3
OUTPUT_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class JobPlace:
    """What every job is told about this site; `projects_dir` holds each project's home, alike on every node."""

    python: str
    api_url: str
    site_ca_pem: str
    projects_dir: str = "/var/lib/redoubt-projects"
    first_port: int = 24000
    ports: int = 100


@dataclass(frozen=True)
class Start:
    job_id: str
    order: RunOrder


class JobLoops:
    """One step of each loop a call; the caller repeats them."""

    def __init__(self, database: Database, engine: Engine, place: JobPlace) -> None:
        self._database = database
        self._engine = engine
        self._place = place

    async def converge(self) -> None:
        """Start what waits, settle what the engine tells: one round over the whole site."""
        await self.start()
        await self.settle()

    async def start(self) -> None:
        """Hand submitted jobs to the engine; an engine that is away gets them in a later round."""
        for start in await self._load_starts():
            try:
                run = await self._engine.start(start.order)
            except Unavailable as error:
                log.warning("job.start_postponed", job=start.job_id, error=error.detail)
                return
            except RedoubtError as error:
                await self._fail(start.job_id, error)
                continue
            await self._mark_submitted(start.job_id, run)

    async def settle(self) -> None:
        """Compare with the engine: begin and end starts and their leases, stop what is to stop or what nobody needs."""
        seen = await self._engine.observe()
        async with self._database.transaction() as tx:
            await store.lock_converging(tx)
            jobs = {job.id: job for job in await store.list_unfinished_jobs(tx)}
            runs = await store.list_unfinished_runs(tx)
            await settling.settle(tx, jobs, runs, seen)
            stops = _stops(jobs, [run for run in runs if _must_be_told(tx, run)])
            wanted = {*jobs, *(run.id for run in runs if run.ended_at is None)}
        for stop in [*stops, *(_Stop(name, STOP_GRACE_S) for name in _orphans(seen, wanted))]:
            if not await self._has_stopped(stop):
                return

    async def sweep(self) -> None:
        """Delete what jobs wrote that ended long ago, and the oldest of a project that keeps too much."""
        async with self._database.transaction() as tx:
            old = await store.list_with_old_output(tx, tx.now - OUTPUT_KEPT, SWEPT_A_ROUND)
            await starts.forget_old_output(tx, SYSTEM, jobs=old)
        async with self._database.transaction() as tx:
            old = await store.list_beyond_budget(tx, PROJECT_OUTPUT_BYTES, SWEPT_A_ROUND)
            await starts.forget_old_output(tx, SYSTEM, jobs=old)

    async def _load_starts(self) -> list[Start]:
        """Return what is to be handed over; what allocation no longer admits fails here, with its reasons."""
        async with self._database.transaction() as tx:
            await store.lock_converging(tx)
            waiting = [job for job in await store.list_unfinished_jobs(tx) if job.submitted_at is None]
            found = [await self._prepare(tx, job) for job in _in_turns(waiting)[:STARTS_A_ROUND]]
            return [start for start in found if start is not None]

    async def _prepare(self, tx: Tx, job: Job) -> Start | None:
        runs = await store.list_runs_of(tx, job.id, lock=True)
        if job.stop_asked_at is not None or any(run.engine_ref or run.restarts is not None for run in runs):
            return None  # stopped before it started, or started by a reconciler that was killed before it wrote so
        try:
            share = await shares.get_share(tx, job.share)
            admission = await asks.admit_again(tx, job)
        except (NotFound, Refused) as refusal:
            await settling.fail(tx, job, runs, refusal)
            return None
        job.over_quota = admission.over_quota
        return Start(job.id, self._order(job, share, admission))

    def _order(self, job: Job, share: Share, admission: Admission) -> RunOrder:
        home = f"{self._place.projects_dir}/p{share.slot or 0:02d}"
        return RunOrder(
            name=job.id,
            argv=(self._place.python, "-m", "controlplane.main.job", "--spec-env", "REDOUBT_JOB_SPEC"),
            environment={"REDOUBT_JOB_SPEC": self._spec(job, share, home).model_dump_json()},
            gpus=job.gpus,
            gpu_type=job.gpu_type,
            time_limit_s=job.time_limit_s,
            avoid_nodes=admission.avoid_nodes,
            user=admission.user,
            account=admission.account,
            partition=admission.partition,
            qos=admission.qos,
            folder=home,
            cpus=job.cpus,
            memory_mb=job.memory_mb,
            requeues=job.requeues,
            warning=EndWarning(job.signal, job.signal_before_s) if job.signal else None,
            array=job.array,
            nice=rules.nice_of(job.priority),
        )

    def _spec(self, job: Job, share: Share, home: str) -> JobSpec:
        first = self._place.first_port + self._place.ports * ((share.slot or 1) - 1)
        return JobSpec(
            job_id=job.id,
            nonce=job.nonce,
            api_url=self._place.api_url,
            site_ca_pem=self._place.site_ca_pem,
            is_array=bool(job.array),
            command=tuple(job.command),
            environment=job.environment,
            gpus=job.gpus,
            home=home,
            first_port=first,
            last_port=first + self._place.ports - 1,
            signal=job.signal,
            signal_before_s=job.signal_before_s,
            stop_grace_s=_grace_s(job),
        )

    async def _mark_submitted(self, job_id: str, run: ObservedRun) -> None:
        async with self._database.transaction() as tx:
            job = await store.find_job(tx, job_id, project="", lock=True)
            if job is None or job.submitted_at is not None:
                return
            job.submitted_at = tx.now
            for row in await store.list_runs_of(tx, job_id, lock=True):
                row.engine_ref = row.engine_ref or run.ref
            await audit.record(tx, SYSTEM, "job.handed_over", job_id, engine_ref=run.ref)

    async def _fail(self, job_id: str, error: RedoubtError) -> None:
        async with self._database.transaction() as tx:
            job = await store.find_job(tx, job_id, project="", lock=True)
            if job is not None and job.submitted_at is None:
                await settling.fail(tx, job, await store.list_runs_of(tx, job_id, lock=True), error)

    async def _has_stopped(self, stop: "_Stop") -> bool:
        """Tell the engine to end a run, or all runs of an array; say whether it was there to be told."""
        try:
            await self._engine.stop(stop.name, grace_s=stop.grace_s)
        except Unavailable as error:
            log.warning("job.stop_postponed", run=stop.name, error=error.detail)
            return False
        async with self._database.transaction() as tx:
            await store.mark_told(tx, stop.runs)
        return True


def _in_turns(jobs: Sequence[Job]) -> list[Job]:
    """Let every share hand over one job before any hands over its next: priority counts within a share."""
    queues: dict[str, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (-job.priority, job.number)):
        queues.setdefault(job.share, []).append(job)
    turns = zip_longest(*queues.values())
    return [job for turn in turns for job in turn if job is not None]


@dataclass(frozen=True)
class _Stop:
    """`name` is a run's or an array's, `runs` are those that it stands for."""

    name: str
    grace_s: float
    runs: tuple[str, ...] = ()


def _stops(jobs: Mapping[str, Job], runs: Sequence[JobRun]) -> list[_Stop]:
    """Return what to stop: a job that is stopped as a whole by its name, once, however many elements it has."""
    found: dict[str, list[str]] = {}
    for run in runs:
        name = run.job_id if jobs[run.job_id].stop_asked_at is not None else run.id
        found.setdefault(name, []).append(run.id)
    return [_Stop(name, _grace_s(jobs[name.partition(".")[0]]), tuple(ids)) for name, ids in found.items()]


def _grace_s(job: Job) -> float:
    """Return how long a run has from its first warning to its end: time to write a checkpoint, if it writes one."""
    return STOP_GRACE_S + job.signal_before_s


def _must_be_told(tx: Tx, run: JobRun) -> bool:
    """Say whether the engine must hear that a run is to stop: once, and again when it seems to have forgotten."""
    if run.ended_at is not None or run.stop_asked_at is None or not run.engine_ref:
        return False
    return run.stop_told_at is None or (tx.now - run.stop_told_at).total_seconds() > STOP_AGAIN_AFTER_S


def _orphans(seen: dict[str, ObservedRun], wanted: set[str]) -> list[str]:
    """Return runs named like ours that no job needs; what has another name is somebody else's."""
    return [
        name
        for name, run in seen.items()
        if name.startswith(PREFIX) and name not in wanted and run.state != EngineState.ENDED
    ]
