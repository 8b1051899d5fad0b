"""Our books after an engine's word: each run takes its step, with its start and its lease, in one transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

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
BEYOND = frozenset({"over_quota", "no_quota"})
RENEW_BEFORE = timedelta(minutes=5)


async def settle(tx: Tx, jobs: Mapping[str, Job], runs: Sequence[JobRun], seen: Mapping[str, ObservedRun]) -> None:
    """Take every run's step. What ends goes first, because what begins may need its GPUs."""
    leases = await allocation.list_expiries(tx)
    starts = await store.list_starts(tx, [(run.id, run.restarts) for run in runs if run.restarts is not None])
    sights = [_look(tx, jobs[run.job_id], run, starts.get(run.id), seen) for run in runs]
    for sight in sorted(sights, key=lambda sight: isinstance(sight.step, Begin)):
        if not isinstance(sight.step, Keep | Miss) or _is_due(leases.get(sight.run.id), tx.now):
            await _attempt(tx, sight)
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


@dataclass(frozen=True)
class _Sight:
    """A run as the engine shows it, and the step that follows."""

    job: Job
    run: JobRun
    start: JobStart | None
    told: ObservedRun | None
    fact: RunFact
    step: Step


def _look(tx: Tx, job: Job, run: JobRun, start: JobStart | None, seen: Mapping[str, ObservedRun]) -> _Sight:
    told = seen.get(run.id) or seen.get(job.id)  # an array that waits may be listed as one
    fact = _fact(job, run, start)
    step = rules.judge(fact, told, tx.now)
    if told is not None:
        job.submitted_at = job.submitted_at or tx.now
        run.engine_ref = run.engine_ref or told.ref
    if (run.missing_since is not None) is not isinstance(step, Miss):
        run.missing_since = tx.now if isinstance(step, Miss) else None
    if start is not None and isinstance(step, Keep) and _is_unheard(start, tx.now):
        run.reason = f"runs on {start.node}, and its supervisor has not spoken yet: the command waits for that"
        run.remedy = f"look whether {start.node} reaches the api; the log of the run is in its project's folder there"
    return _Sight(job, run, start, told, fact, step)


async def _attempt(tx: Tx, sight: _Sight) -> None:
    """Take one run's step; one that cannot be taken now is taken in a later round, and holds up no other."""
    run_id = sight.run.id
    await tx.session.flush()
    try:
        async with audit.attempt(tx):
            await _take(tx, sight)
    except RedoubtError as error:
        log.warning("job.step_postponed", run=run_id, error=error.detail)
        await _reload(tx, sight)


async def _take(tx: Tx, sight: _Sight) -> None:
    job, run, start, step = sight.job, sight.run, sight.start, sight.step
    state = rules.state_after(sight.fact, step)
    match step:
        case Wait(why, ended):
            if start is not None:
                await _close(tx, job, run, start, ended)
            run.restarts, run.node, run.reason, run.remedy = None, "", why.reason, why.remedy
        case Begin(restarts, ended) if sight.told is not None:
            if start is not None:
                await _close(tx, job, run, start, ended)
                run.restarts = None
            if not await _begin(tx, sight, restarts, sight.told):
                state = sight.fact.state if start is None else RunState.REQUEUED
        case End():
            if start is not None:
                start.ended_at, start.end_reason = tx.now, step.why.reason
            await _end(tx, job, run, step)
        case Keep():  # the engine still shows it though its time is over
            await allocation.renew_lease(tx, SYSTEM, owner=run.id, expires_at=tx.now + LEASE_SLACK)
    if state != run.state:
        _move(run, state)


async def _begin(tx: Tx, sight: _Sight, restarts: int, told: ObservedRun) -> bool:
    """Keep a start with the lease of its GPUs; say whether that could be. If not, it is tried again next round."""
    job, run = sight.job, sight.run
    run.node = told.node
    start = await store.find_start(tx, run.id, restarts) or JobStart(run_id=run.id, restarts=restarts, token_sha256="")
    gpus = tuple(gpu.uuid for gpu in await fleet.find_gpus(tx, told.node, told.gpu_indexes)) if job.gpus else ()
    if start.token_sha256:
        run.reason, run.remedy = f"the scheduler tells of start {restarts} twice", f"redoubt job stop {job.id}"
        return False
    if len(gpus) < job.gpus:
        why = f"runs on {told.node}, whose agent has not told of the {job.gpus} GPUs that it was given"
        run.reason, run.remedy = why, f"redoubt node show {told.node}"
        return False
    refusal = await _lease(tx, sight, told, gpus) if job.gpus else ""
    if refusal is None:
        run.node, run.reason = told.node, f"runs on {told.node}, where a GPU that it was given is in a lease yet"
        run.remedy = "wait a moment; then ask an operator to look: redoubt lease list"
        return False
    at = told.started_at or tx.now
    start.node, start.gpu_uuids, start.refusal = told.node, list(gpus), refusal
    start.started_at, start.ended_at, start.end_reason = at, None, ""
    store.add(tx, start)
    run.restarts, run.reason, run.remedy, run.started_at = restarts, refusal, "", at
    facts = {"node": told.node, "restarts": restarts, "gpus": list(gpus), "engine_ref": told.ref}
    await audit.record(tx, SYSTEM, "job.started", run.id, **facts)
    return True


async def _lease(tx: Tx, sight: _Sight, told: ObservedRun, gpus: tuple[str, ...]) -> str | None:
    """Begin a start's lease: "" when it did, why the start may not run, or None when it is to be tried again."""
    cordons = await fleet.cordoned_gpus(tx)
    if held := [f"GPU {uuid} is cordoned" for uuid in gpus if uuid in cordons]:
        return "; ".join(held)
    job, run_id, pool = sight.job, sight.run.id, Pool(sight.job.pool)
    await tx.session.flush()
    try:
        async with audit.attempt(tx):
            await allocation.begin_lease(
                tx,
                SYSTEM,
                owner=run_id,
                share=job.share,
                pool=pool,
                over_quota=job.over_quota,
                preemptible=qos_of(pool, over_quota=job.over_quota) in PREEMPTIBLE,
                gpu_uuids=gpus,
                node=told.node,
                expires_at=(told.started_at or tx.now) + timedelta(seconds=job.time_limit_s) + LEASE_SLACK,
            )
    except Conflict as conflict:  # whose lease it is in is for the log alone: a tenant reads the reason
        log.warning("job.lease_refused", run=run_id, node=told.node, error=conflict.detail)
        await _reload(tx, sight)
        return f"share {job.share} may use no more GPUs of that type" if conflict.code in BEYOND else None
    return ""


async def _reload(tx: Tx, sight: _Sight) -> None:
    """Read again what an attempt has changed and a refusal undone."""
    for row in (sight.job, sight.run, sight.start):
        if row is not None:
            await tx.session.refresh(row)


def _is_due(expires_at: datetime | None, now: datetime) -> bool:
    return expires_at is not None and expires_at - now < RENEW_BEFORE


def _is_unheard(start: JobStart, now: datetime) -> bool:
    return start.registered_at is None and not start.refusal and now - start.started_at > HEARD_WITHIN


async def _close(tx: Tx, job: Job, run: JobRun, start: JobStart, reason: str) -> None:
    """End a start that another one follows."""
    start.ended_at, start.end_reason = tx.now, reason
    run.stop_told_at = None  # who stops the run means its next start too
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
