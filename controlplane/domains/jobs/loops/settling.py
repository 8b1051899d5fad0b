"""Our books after an engine's word: each run takes its step, with its start and its lease, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

import structlog

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.fleet import service as fleet
from controlplane.domains.jobs import rules, store
from controlplane.domains.jobs.tables import Job, JobRun, JobStart
from controlplane.domains.jobs.types import OVER, Begin, End, Keep, Miss, RunFact, RunState, Step, Wait, Why
from controlplane.domains.shares.rules import PREEMPTIBLE, qos_of
from controlplane.domains.shares.types import Pool
from controlplane.engines.port import ObservedRun
from controlplane.kit.errors import Conflict, RedoubtError
from controlplane.kit.tx import Tx

log = structlog.get_logger()

LEASE_SLACK = timedelta(minutes=15)  # after its time limit a run is being ended, and its GPUs are cleaned
HEARD_WITHIN = timedelta(seconds=60)
RENEW_BEFORE = timedelta(minutes=5)


async def settle(tx: Tx, jobs: Mapping[str, Job], runs: Sequence[JobRun], seen: Mapping[str, ObservedRun]) -> None:
    """Take every run's step. What ends goes first, because what begins may need its GPUs."""
    starts = await store.list_starts(tx, [(run.id, run.restarts) for run in runs if run.restarts is not None])
    taken = []
    for run in runs:
        job = jobs[run.job_id]
        told = seen.get(run.id) or seen.get(job.id)  # an array that waits may be listed as one
        step = rules.judge(_fact(job, run, starts.get(run.id)), told, tx.now)
        taken.append((step, job, run, told))
    for step, job, run, told in sorted(taken, key=lambda one: isinstance(one[0], Begin)):
        if told is not None:
            job.submitted_at = job.submitted_at or tx.now
            run.engine_ref = run.engine_ref or told.ref
        await _take(tx, job, run, starts.get(run.id), step, told)
    await tx.session.flush()
    await summarise(tx, jobs.values())


async def fail(tx: Tx, job: Job, runs: Iterable[JobRun], error: RedoubtError) -> None:
    """End a job that cannot be started."""
    why = Why("; ".join((error.detail, *error.reasons)), error.remedy)
    for run in runs:
        await _end(tx, job, run, End(RunState.FAILED, why, None))
    await tx.session.flush()
    await summarise(tx, [job])


async def summarise(tx: Tx, jobs: Iterable[Job]) -> None:
    """Give each job the state that its runs make; with its last run it is over, and nothing registers any more."""
    found = {job.id: job for job in jobs}
    for job_id, states in (await store.list_states(tx, list(found))).items():
        job, state = found[job_id], rules.summarise(states)
        is_over = states <= set(OVER)
        job.state = RunState.STOPPING if job.stop_asked_at is not None and not is_over else state
        if is_over and job.ended_at is None:
            job.ended_at, job.nonce = tx.now, ""
            await audit.record(tx, SYSTEM, "job.ended", job.id, state=state.value)


async def _take(tx: Tx, job: Job, run: JobRun, start: JobStart | None, step: Step, told: ObservedRun | None) -> None:
    run.missing_since = (run.missing_since or tx.now) if isinstance(step, Miss) else None
    before, state = run.state, rules.state_after(_fact(job, run, start), step)
    match step:
        case Wait(why, ended):
            if start is not None:
                await _close(tx, job, run, start, ended)
            run.restarts, run.node, run.reason, run.remedy = None, "", why.reason, why.remedy
        case Begin(restarts, ended) if told is not None:
            if start is not None:
                await _close(tx, job, run, start, ended)
                run.restarts = None
            if not await _begin(tx, job, run, restarts, told):
                state = RunState(before) if start is None else RunState.REQUEUED
        case End():
            if start is not None:
                start.ended_at, start.end_reason = tx.now, step.why.reason
            await _end(tx, job, run, step)
        case Keep() if start is not None:
            await _renew(tx, job, run, start)
            _watch(tx, run, start)
    if state != before:
        _move(run, state)


async def _begin(tx: Tx, job: Job, run: JobRun, restarts: int, told: ObservedRun) -> bool:
    """Keep a start with the lease of its GPUs; say whether both could be. If not, it is tried again next round."""
    gpus: tuple[str, ...] = ()
    refusal = ""
    run.node = told.node
    start = await store.find_start(tx, run.id, restarts) or JobStart(run_id=run.id, restarts=restarts, token_sha256="")
    if start.token_sha256:
        run.reason, run.remedy = f"the scheduler tells of start {restarts} twice", f"redoubt job stop {job.id}"
        return False
    if job.gpus:
        gpus = tuple(gpu.uuid for gpu in await fleet.find_gpus(tx, told.node, told.gpu_indexes))
        if len(gpus) < job.gpus:
            why = f"runs on {told.node}, whose agent has not told of the {job.gpus} GPUs that it was given"
            run.reason, run.remedy = why, f"redoubt node show {told.node}"
            return False
        cordons = await fleet.cordoned_gpus(tx)
        refusal = "; ".join(f"GPU {uuid} is cordoned: {cordons[uuid].reason}" for uuid in gpus if uuid in cordons)
        if not refusal and not await _has_leased(tx, job, run, told, gpus):
            return False
    at = told.started_at or tx.now
    start.node, start.gpu_uuids, start.refusal = told.node, list(gpus), refusal
    start.started_at, start.ended_at, start.end_reason = at, None, ""
    store.add(tx, start)
    run.restarts, run.reason, run.remedy, run.started_at = restarts, refusal, "", at
    facts = {"node": told.node, "restarts": restarts, "gpus": list(gpus), "engine_ref": told.ref}
    await audit.record(tx, SYSTEM, "job.started", run.id, **facts)
    return True


async def _has_leased(tx: Tx, job: Job, run: JobRun, told: ObservedRun, gpus: tuple[str, ...]) -> bool:
    pool = Pool(job.pool)
    try:
        async with tx.session.begin_nested():
            await allocation.begin_lease(
                tx,
                SYSTEM,
                owner=run.id,
                share=job.share,
                pool=pool,
                over_quota=job.over_quota,
                preemptible=qos_of(pool, over_quota=job.over_quota) in PREEMPTIBLE,
                gpu_uuids=gpus,
                node=told.node,
                expires_at=(told.started_at or tx.now) + timedelta(seconds=job.time_limit_s) + LEASE_SLACK,
            )
    except Conflict as taken:
        run.reason, run.remedy = f"runs on {told.node} and waits for its lease: {taken.detail}", "redoubt lease list"
        log.warning("job.lease_postponed", run=run.id, node=told.node, error=taken.detail)
        return False
    return True


async def _renew(tx: Tx, job: Job, run: JobRun, start: JobStart) -> None:
    """Hold the lease of a run that the engine still shows after its time."""
    if job.gpus and tx.now > start.started_at + timedelta(seconds=job.time_limit_s) + LEASE_SLACK - RENEW_BEFORE:
        try:
            await allocation.renew_lease(tx, SYSTEM, owner=run.id, expires_at=tx.now + LEASE_SLACK)
        except Conflict as over:
            log.warning("job.lease_over", run=run.id, error=over.detail)


def _watch(tx: Tx, run: JobRun, start: JobStart) -> None:
    """Say so when a start's supervisor is not heard; its command may run all the same."""
    if start.registered_at is None and tx.now - start.started_at > HEARD_WITHIN:
        run.reason = f"runs on {start.node}, and its supervisor has not spoken yet: the command waits for that"
        run.remedy = f"look whether {start.node} reaches the api; the log of the run is in its project's folder there"


async def _close(tx: Tx, job: Job, run: JobRun, start: JobStart, reason: str) -> None:
    """End a start that another one follows."""
    start.ended_at, start.end_reason = tx.now, reason
    if job.gpus:
        await allocation.end_lease(tx, SYSTEM, owner=run.id, reason=reason)
    await audit.record(tx, SYSTEM, "job.requeued", run.id, restarts=start.restarts, node=start.node, reason=reason)


async def _end(tx: Tx, job: Job, run: JobRun, step: End) -> None:
    _move(run, step.state)
    run.ended_at, run.status, run.restarts = tx.now, step.status, None
    run.reason, run.remedy = step.why.reason[:2000], step.why.remedy
    if job.gpus:
        await allocation.end_lease(tx, SYSTEM, owner=run.id, reason=step.why.reason[:200])
    facts = {"node": run.node, "status": step.status, "reason": run.reason}
    await audit.record(tx, SYSTEM, f"job.{step.state}", run.id, **facts)


def _fact(job: Job, run: JobRun, start: JobStart | None) -> RunFact:
    return RunFact(
        state=RunState(run.state),
        restarts=run.restarts,
        is_submitted=bool(run.engine_ref),
        missing_since=run.missing_since,
        stop_asked=run.stop_asked_at is not None,
        said_status=start.said_status if start is not None else None,
        refusal=start.refusal if start is not None else "",
        share=job.share,
        project=job.project,
    )


def _move(run: JobRun, state: RunState) -> None:
    log.info("job.moved", run=run.id, before=run.state, after=state.value)
    run.state = state
    run.stamp += 1
