"""What people ask of jobs: run, look, read, stop. Nothing is written before the ask was admitted."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_urlsafe

from controlplane.contracts.jobs import JobExplanation, JobPlan, RunJob
from controlplane.domains.allocation import service as allocation
from controlplane.domains.allocation.types import Admission, Ask
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.jobs import rules, store
from controlplane.domains.jobs.tables import Job, JobOutput, JobRun, JobStart
from controlplane.domains.jobs.types import OVER, RunState, Why
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.domains.shares import rules as share_rules
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Pool, Share
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput, Conflict, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

MOST_LIVE_RUNS = 1000  # of one project
PARTS_AT_ONCE = 16
LATE_OUTPUT = timedelta(seconds=60)  # what a supervisor ships after the engine has told of the end


@dataclass(frozen=True)
class JobView:
    """A job with some of its runs, and of each the newest start. `count` is all its runs, `first` the one to name."""

    job: Job
    count: int
    first: JobRun | None
    runs: tuple[JobRun, ...] = ()
    starts: dict[str, JobStart] = field(default_factory=dict)


@dataclass(frozen=True)
class LogView:
    """Parts of one run's output; `cursor` leads on, `is_over` says that there will be no more."""

    run_id: str
    parts: tuple[JobOutput, ...]
    cursor: str
    is_over: bool


async def submit_job(tx: Tx, actor: Actor, *, ask: RunJob) -> JobView:
    """Keep a job that was admitted; loops start it. Raises Refused with reasons, before anything is written."""
    share = await _find_share(tx, actor, ask.share)
    await policy.require(tx, actor, "job.run", _resource(share.name, share.project))
    known = await _find_known(tx, ask)
    if known is not None:
        return await _view(tx, known)
    indexes = await _runs_of(tx, ask, share.project)
    gpu_type, admission = await _admit(tx, share, ask, runs=len(indexes))
    job = Job(
        id=new_id("job"),
        project=share.project,
        made_by=actor.id,
        ask_sha256=_digest(ask),
        over_quota=admission.over_quota,
        nonce=token_urlsafe(32),
        state=RunState.QUEUED,
        created_at=tx.now,
        **{**_columns(ask), "gpu_type": gpu_type},
    )
    store.add(tx, job)
    await tx.session.flush()
    for index in indexes:
        run_id = rules.run_id_of(job.id, index)
        store.add(tx, JobRun(id=run_id, job_id=job.id, array_index=index, state=RunState.QUEUED))
    facts = {"share": job.share, "pool": job.pool, "gpus": job.gpus, "gpu_type": job.gpu_type, "runs": len(indexes)}
    await audit.record(tx, actor, "job.submitted", job.id, name=job.name, ask_sha256=job.ask_sha256, **facts)
    await tx.session.flush()
    return await _view(tx, job)


async def plan_job(tx: Tx, actor: Actor, *, ask: RunJob) -> JobPlan:
    """Say what a submission would be, and write nothing. Raises Refused with reasons."""
    share = await _find_share(tx, actor, ask.share)
    await policy.require(tx, actor, "job.run", _resource(share.name, share.project))
    indexes = await _runs_of(tx, ask, share.project)
    gpu_type, admission = await _admit(tx, share, ask, runs=len(indexes))
    return JobPlan(
        gpu_type=gpu_type,
        account=admission.account,
        partition=admission.partition,
        qos=admission.qos,
        user=admission.user,
        over_quota=admission.over_quota,
        avoid_nodes=admission.avoid_nodes,
        time_limit_s=ask.time_limit_s,
        runs=len(indexes),
        notes=rules.notes_of(ask, over_quota=admission.over_quota),
    )


async def get_job(tx: Tx, actor: Actor, *, job_id: str) -> JobView:
    job = await _find_job(tx, actor, job_id)
    await policy.require(tx, actor, "job.read", _resource(job.id, job.project))
    return await _view(tx, job)


async def list_jobs(tx: Tx, actor: Actor, *, page: Page, project: str, live: bool) -> list[JobView]:
    """Return jobs, the newest first; a tenant sees its own project's."""
    await policy.require(tx, actor, "job.read", _resource("site", actor.project))
    if page.after is not None and not page.after.isdecimal():
        raise BadInput("the cursor is not one of ours", remedy="start again without a cursor")
    jobs = await store.list_jobs(tx, page, project=actor.project, only=project, live=live)
    ids = [job.id for job in jobs]
    first, counts = await store.list_first_runs(tx, ids), await store.count_runs(tx, ids)
    return [JobView(job, counts.get(job.id, 0), first.get(job.id)) for job in jobs]


async def stop_job(tx: Tx, actor: Actor, *, job_id: str, index: int | None) -> JobView:
    """Ask a job, or one element of it, to end; it gets its grace. What is over stays as it is."""
    job = await _find_job(tx, actor, job_id, lock=True)
    await policy.require(tx, actor, "job.stop", _resource(job.id, job.project))
    wanted = [
        run
        for run in await store.list_runs_of(tx, job.id, lock=True)
        if run.state not in OVER and run.stop_asked_at is None and index in (None, run.array_index)
    ]
    if index is not None and not await _has_element(tx, job, index):
        raise NotFound(f"{job_id} has no element {index}", remedy=f"redoubt job show {job_id}")
    for run in wanted:
        run.stop_asked_at, run.state, run.stamp = tx.now, RunState.STOPPING, run.stamp + 1
    if index is None and job.ended_at is None and job.stop_asked_at is None:
        job.stop_asked_at, job.state = tx.now, RunState.STOPPING
    if wanted:
        await audit.record(tx, actor, "job.stop_asked", job.id, runs=len(wanted), index=index)
    return await _view(tx, job)


async def read_log(tx: Tx, actor: Actor, *, job_id: str, index: int | None, cursor: str) -> LogView:
    """Return what one run wrote after `cursor` ("" is the beginning), a few parts at a time."""
    job = await _find_job(tx, actor, job_id)
    await policy.require(tx, actor, "job.read_log", _resource(job.id, job.project))
    run = await _find_run(tx, job, index)
    if job.log_deleted_at is not None:
        raise NotFound(f"what {run.id} wrote was deleted at {job.log_deleted_at:%Y-%m-%d}", remedy="run it again")
    after = rules.parse_cursor(cursor)
    parts = await store.list_output(tx, run.id, after, PARTS_AT_ONCE)
    last = (parts[-1].restarts, parts[-1].sequence) if parts else after
    return LogView(run.id, tuple(parts), rules.to_cursor(last), not parts and await _is_log_over(tx, run))


async def explain_job(tx: Tx, actor: Actor, *, job_id: str) -> JobExplanation:
    """Say why a job is as it is; of one that waits for GPUs also what every node says to it now."""
    job = await _find_job(tx, actor, job_id)
    await policy.require(tx, actor, "job.read", _resource(job.id, job.project))
    view = await _view(tx, job)
    why = Why(view.first.reason, view.first.remedy) if view.first else Why("")
    if job.gpus and job.state in (RunState.QUEUED, RunState.REQUEUED):
        now = await allocation.explain(tx, actor, share=job.share, pool=Pool(job.pool), ask=_ask_of(job))
        remedy = why.remedy or now.remedy
        return JobExplanation(state=job.state, reason=why.reason, remedy=remedy, details=rules.words_of(now))
    return JobExplanation(state=job.state, reason=why.reason, remedy=why.remedy, details=())


async def admit_again(tx: Tx, job: Job) -> Admission:
    """Ask about a job that was admitted before, for quotas and nodes may have changed. Raises Refused or NotFound."""
    return await _admit_ask(tx, job.share, Pool(job.pool), _ask_of(job), yields=job.over_quota)


def _ask_of(job: Job) -> Ask:
    return Ask(job.gpus, job.gpu_type, job.gpu_memory_bytes, job.zone)


async def _admit(tx: Tx, share: Share, ask: RunJob, *, runs: int) -> tuple[str, Admission]:
    """Ask allocation whether this may run, on which type of GPU and in which class. Raises Refused or BadInput.

    What waits within a guarantee counts against it already: else who submits much at once would have it all.
    """
    if ask.image:
        raise BadInput(
            "an image of the depot cannot be run yet",
            remedy="leave --image out; bring what the command needs in the project's folder",
            code="no_images",
        )
    if ask.pool == "inference" and not ask.gpus:
        raise Refused(
            "pool inference is for work on GPUs",
            remedy="use --pool interactive or training",
            code="no_gpus",
        )
    most = {terms.pool: terms.max_time_s for terms in await shares.pool_terms(tx)}[Pool(ask.pool)]
    if ask.time_limit_s > most:
        raise Refused(
            f"a time limit of {ask.time_limit_s} s is asked for, and pool {ask.pool} has {most} s at most",
            remedy=f"give --time {most}s, and --checkpoint so that the next job can go on",
            code="too_long",
        )
    if not ask.gpus:
        return "", await _admit_ask(tx, ask.share, Pool(ask.pool), _asked(ask, ""), yields=True)
    gpu_type = ask.gpu_type or await _choose_type(tx, share, ask)
    admission = await _admit_ask(tx, ask.share, Pool(ask.pool), _asked(ask, gpu_type), yields=False)
    if not admission.over_quota and await _is_beyond(tx, share, ask, gpu_type, runs):
        admission = await _admit_ask(tx, ask.share, Pool(ask.pool), _asked(ask, gpu_type), yields=True)
    return gpu_type, admission


async def _choose_type(tx: Tx, share: Share, ask: RunJob) -> str:
    """Choose a type for an ask that takes any, for limits count by type: one that fits now and within the guarantee.

    Raises Refused with the reasons when none will ever do.
    """
    ways: list[tuple[bool, bool, str]] = []
    quotas = await shares.list_all_quotas(tx)
    for gpu_type in sorted({quota.gpu_type for quota in quotas if quota.share in share.chain and quota.most}):
        with suppress(Refused):
            found = await _admit_ask(tx, ask.share, Pool(ask.pool), _asked(ask, gpu_type), yields=False)
            ways.append((found.placement is None, found.over_quota, gpu_type))
    if ways:
        return min(ways)[2]
    found = await _admit_ask(tx, ask.share, Pool(ask.pool), _asked(ask, ""), yields=False)
    return found.placement.gpu_type if found.placement else ""


def _asked(ask: RunJob, gpu_type: str) -> Ask:
    return Ask(ask.gpus, gpu_type, ask.gpu_memory_bytes, ask.zone)


async def _is_beyond(tx: Tx, share: Share, ask: RunJob, gpu_type: str, runs: int) -> bool:
    """Say whether this goes beyond a guarantee; admission before it holds the lock under which that stays true."""
    chains = {one.name: one.chain for one in await shares.list_all_shares(tx)}
    promised = rules.promised_gpus(await store.list_promised(tx), chains)
    quotas = [quota for quota in await shares.list_all_quotas(tx) if quota.share in share.chain]
    used = await allocation.guaranteed_in_use(tx)
    return rules.is_beyond(ask.gpus * rules.at_once(ask.array, runs), gpu_type, quotas, used, promised)


async def _admit_ask(tx: Tx, share: str, pool: Pool, ask: Ask, *, yields: bool) -> Admission:
    if ask.count:
        return await allocation.admit(tx, share=share, pool=pool, ask=ask, waits=True, yields=yields)
    found = await shares.get_share(tx, share)
    # no quota bounds CPUs, so whoever has a guarantee may take them back
    qos = share_rules.qos_of(pool, over_quota=True)
    elsewhere = [node.name for node in await fleet.view_fleet(tx) if ask.zone and node.zone != ask.zone]
    return Admission(
        share=share, pool=pool, account=share, partition=str(pool), qos=qos, user=found.user, over_quota=True,
        preemptible=qos in share_rules.PREEMPTIBLE, avoid_nodes=tuple(elsewhere), time_limit_s=0, placement=None,
    )  # fmt: skip


async def _find_share(tx: Tx, actor: Actor, name: str) -> Share:
    """Return a share that runs jobs; one of another project is not there for a tenant."""
    share = await allocation.find_share(tx, name)
    if share is None or (actor.project and share.project != actor.project):
        raise NotFound(f"no project or team {name}", remedy="redoubt project list", code="unknown_share")
    if not share.project or share.slot is None:
        raise Refused(
            f"{name} runs no jobs: it has no folder and no user on the nodes",
            remedy="name a project or a team; redoubt project list",
            code="no_slot",
        )
    if share.archived:
        raise Refused(f"{name} is archived", remedy="name another project", code="archived")
    return share


async def _find_known(tx: Tx, ask: RunJob) -> Job | None:
    """Return the job that this token submitted before; raises Conflict when it asked for something else."""
    if ask.token is None:
        return None
    await store.lock_token(tx, ask.share, ask.token)
    known = await store.find_by_token(tx, ask.share, ask.token)
    if known is not None and known.ask_sha256 != _digest(ask):
        raise Conflict(
            f"token {ask.token} submitted {known.id}, which asks for something else",
            remedy=f"use another token, or look: redoubt job show {known.id}",
        )
    return known


async def _runs_of(tx: Tx, ask: RunJob, project: str) -> tuple[int | None, ...]:
    """Return the index of each run; raises BadInput for what is no array, Refused when the project has too many."""
    try:
        indexes: tuple[int | None, ...] = rules.elements_of(ask.array) if ask.array else (None,)
    except ValueError as error:
        raise BadInput(str(error), remedy="give --array 0-9, or 0-9%2 for two at once") from None
    live = await store.count_live_runs(tx, project)
    if live + len(indexes) > MOST_LIVE_RUNS:
        raise Refused(
            f"project {project} has {live} runs that are not over, {MOST_LIVE_RUNS} at most",
            remedy="wait for some to end, or stop some: redoubt job stop JOB",
            code="too_many_runs",
        )
    return indexes


def _columns(ask: RunJob) -> dict[str, object]:
    """Return the columns of a job that say what was asked."""
    asked = ask.model_dump(exclude={"checkpoint", "requeues", "image"})
    checkpoint = ask.checkpoint
    return {
        **asked,
        "command": list(ask.command),
        "signal": checkpoint.signal if checkpoint else "",
        "signal_before_s": checkpoint.before_s if checkpoint else 0,
        "requeues": ask.requeues if ask.requeues is not None else ask.pool == "training",
    }


def _digest(ask: RunJob) -> str:
    return sha256_hex(canonical_json(ask.model_dump(mode="json")))


def _resource(name: str, project: str) -> Resource:
    return Resource("job", name, project=project)


async def _find_job(tx: Tx, actor: Actor, job_id: str, *, lock: bool = False) -> Job:
    job = await store.find_job(tx, job_id, project=actor.project, lock=lock)
    if job is None:
        raise NotFound(f"no job {job_id}", remedy="redoubt job list")
    return job


async def _find_run(tx: Tx, job: Job, index: int | None) -> JobRun:
    if index is None and job.array:
        raise BadInput(f"{job.id} is an array", remedy=f"say which element: redoubt job logs {job.id} --index 0")
    run = await tx.session.get(JobRun, rules.run_id_of(job.id, index))
    if run is None:
        raise NotFound(f"{job.id} has no element {index}", remedy=f"redoubt job show {job.id}")
    return run


async def _has_element(tx: Tx, job: Job, index: int) -> bool:
    return await tx.session.get(JobRun, rules.run_id_of(job.id, index)) is not None


async def _is_log_over(tx: Tx, run: JobRun) -> bool:
    if run.ended_at is None:
        return False
    newest = (await store.list_newest_starts(tx, [run.id])).get(run.id)
    return newest is None or newest.is_log_over or tx.now - run.ended_at > LATE_OUTPUT


async def _view(tx: Tx, job: Job) -> JobView:
    runs: Sequence[JobRun] = await store.list_runs_of(tx, job.id, limit=store.SHOWN_RUNS)
    starts = await store.list_newest_starts(tx, [run.id for run in runs])
    first = next((run for run in runs if run.ended_at is None), runs[0] if runs else None)
    counts = await store.count_runs(tx, [job.id])
    return JobView(job, counts.get(job.id, 0), first, tuple(runs), starts)
