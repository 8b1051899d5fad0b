from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, text, true, tuple_, update

from controlplane.domains.jobs.tables import Job, JobOutput, JobRun, JobStart
from controlplane.domains.jobs.types import Promised, RunState
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

CONVERGING = 0x10B5  # any constant: one advisory lock for the whole site
SHOWN_RUNS = 200


async def lock_converging(tx: Tx) -> None:
    """Let one reconciler at a time decide what to start and what is over."""
    await tx.session.execute(text("select pg_advisory_xact_lock(:key)"), {"key": CONVERGING})


async def lock_token(tx: Tx, share: str, token: str) -> None:
    """Let one submission of a token at a time look whether there was one before."""
    key = {"key": f"job {share} {token}"}
    await tx.session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 0))"), key)


def add(tx: Tx, row: Job | JobRun | JobStart | JobOutput) -> None:
    tx.session.add(row)


async def find_job(tx: Tx, job_id: str, *, project: str, lock: bool = False) -> Job | None:
    """Return a job; an actor of a project sees that project's alone, staff has "" and sees all."""
    query = select(Job).where(Job.id == job_id, _seen_by(project))
    return (await tx.session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def find_by_token(tx: Tx, share: str, token: str) -> Job | None:
    return (await tx.session.scalars(select(Job).where(Job.share == share, Job.token == token))).one_or_none()


async def list_jobs(tx: Tx, page: Page, *, project: str, only: str, live: bool) -> Sequence[Job]:
    """Return jobs, the newest first: what `project` may see, of the project `only` if it is given."""
    query = select(Job).where(_seen_by(project)).order_by(Job.number.desc()).limit(page.limit)
    if only:
        query = query.where(Job.project == only)
    if live:
        query = query.where(Job.ended_at.is_(None))
    if page.after is not None:
        query = query.where(Job.number < int(page.after))
    return (await tx.session.scalars(query)).all()


async def count_live_runs(tx: Tx, project: str) -> int:
    query = select(func.count()).select_from(JobRun).join(Job).where(Job.project == project, JobRun.ended_at.is_(None))
    return int(await tx.session.scalar(query) or 0)


async def list_promised(tx: Tx) -> list[Promised]:
    """Return for each live job within a guarantee what it may yet begin."""
    waiting = func.count().filter(JobRun.restarts.is_(None))
    query = (
        select(Job.share, Job.gpu_type, Job.gpus, Job.array, waiting, func.count() - waiting)
        .join(JobRun, JobRun.job_id == Job.id)
        .where(Job.ended_at.is_(None), JobRun.ended_at.is_(None), Job.over_quota.is_(False), Job.gpus > 0)
        .group_by(Job.id)
    )
    return [Promised(*row) for row in await tx.session.execute(query)]


async def list_unfinished_jobs(tx: Tx) -> Sequence[Job]:
    """Return every job that is not over, locked, the oldest first."""
    query = select(Job).where(Job.ended_at.is_(None)).order_by(Job.number).with_for_update()
    return (await tx.session.scalars(query)).all()


async def list_unfinished_runs(tx: Tx) -> Sequence[JobRun]:
    """Return every run that is not over, locked: a supervisor may speak at this very moment."""
    query = select(JobRun).where(JobRun.ended_at.is_(None)).order_by(JobRun.id).with_for_update()
    return (await tx.session.scalars(query)).all()


async def list_runs_of(tx: Tx, job_id: str, *, lock: bool = False, limit: int | None = None) -> Sequence[JobRun]:
    query = select(JobRun).where(JobRun.job_id == job_id).order_by(JobRun.array_index, JobRun.id).limit(limit)
    return (await tx.session.scalars(query.with_for_update() if lock else query)).all()


async def list_first_runs(tx: Tx, job_ids: Sequence[str]) -> dict[str, JobRun]:
    """Return for each job the run to speak of in one line: one that is not over if there is one."""
    query = (
        select(JobRun)
        .where(JobRun.job_id.in_(job_ids))
        .order_by(JobRun.job_id, JobRun.ended_at.is_not(None), JobRun.array_index)
        .distinct(JobRun.job_id)
    )
    return {run.job_id: run for run in await tx.session.scalars(query)}


async def count_runs(tx: Tx, job_ids: Sequence[str]) -> dict[str, int]:
    query = select(JobRun.job_id, func.count()).where(JobRun.job_id.in_(job_ids)).group_by(JobRun.job_id)
    return {job_id: int(count) for job_id, count in await tx.session.execute(query)}


async def list_states(tx: Tx, job_ids: Sequence[str]) -> dict[str, set[RunState]]:
    """Return the states that the runs of each job have."""
    found: dict[str, set[RunState]] = {}
    query = select(JobRun.job_id, JobRun.state).where(JobRun.job_id.in_(job_ids)).distinct()
    for job_id, state in await tx.session.execute(query):
        found.setdefault(job_id, set()).add(RunState(state))
    return found


async def find_run(tx: Tx, run_id: str) -> JobRun | None:
    """Return a run, locked for this transaction."""
    return await tx.session.get(JobRun, run_id, with_for_update=True)


async def find_start(tx: Tx, run_id: str, restarts: int) -> JobStart | None:
    """Return a start, locked for this transaction."""
    return await tx.session.get(JobStart, (run_id, restarts), with_for_update=True)


async def list_starts(tx: Tx, keys: Sequence[tuple[str, int]]) -> dict[str, JobStart]:
    """Return those starts by the id of their run."""
    query = select(JobStart).where(tuple_(JobStart.run_id, JobStart.restarts).in_(keys))
    return {start.run_id: start for start in await tx.session.scalars(query)} if keys else {}


async def list_newest_starts(tx: Tx, run_ids: Sequence[str]) -> dict[str, JobStart]:
    query = (
        select(JobStart)
        .where(JobStart.run_id.in_(run_ids))
        .order_by(JobStart.run_id, JobStart.restarts.desc())
        .distinct(JobStart.run_id)
    )
    return {start.run_id: start for start in await tx.session.scalars(query)} if run_ids else {}


async def list_output(tx: Tx, run_id: str, after: tuple[int, int], limit: int) -> Sequence[JobOutput]:
    """Return parts in order after (restarts, sequence)."""
    place = tuple_(JobOutput.restarts, JobOutput.sequence)
    query = (
        select(JobOutput)
        .where(JobOutput.run_id == run_id, place > after)
        .order_by(JobOutput.restarts, JobOutput.sequence)
        .limit(limit)
    )
    return (await tx.session.scalars(query)).all()


async def list_with_old_output(tx: Tx, before: datetime, limit: int) -> Sequence[Job]:
    """Return jobs that ended before then and whose output is still kept."""
    query = (
        select(Job)
        .where(Job.ended_at < before, Job.log_deleted_at.is_(None))
        .order_by(Job.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await tx.session.scalars(query)).all()


async def list_beyond_budget(tx: Tx, most_bytes: int, limit: int) -> Sequence[Job]:
    """Return jobs that are over and before whose output, counted from the newest, their project keeps that much."""
    kept = select(JobRun.job_id, func.sum(JobRun.log_bytes).label("size")).group_by(JobRun.job_id).subquery()
    newer = func.sum(kept.c.size).over(partition_by=Job.project, order_by=Job.number.desc())
    counted = (
        select(Job.id, newer.label("newer")).join(kept, kept.c.job_id == Job.id).where(Job.log_deleted_at.is_(None))
    ).subquery()
    beyond = select(counted.c.id).where(counted.c.newer > most_bytes)
    query = select(Job).where(Job.id.in_(beyond), Job.ended_at.is_not(None)).order_by(Job.number).limit(limit)
    return (await tx.session.scalars(query.with_for_update(skip_locked=True))).all()


async def mark_told(tx: Tx, run_ids: Sequence[str]) -> None:
    """Note that the engine was told to end these runs."""
    live = JobRun.id.in_(run_ids) & JobRun.ended_at.is_(None)
    await tx.session.execute(update(JobRun).where(live).values(stop_told_at=tx.now))


async def delete_output(tx: Tx, job_id: str) -> None:
    mine = select(JobRun.id).where(JobRun.job_id == job_id)
    await tx.session.execute(delete(JobOutput).where(JobOutput.run_id.in_(mine)))


def _seen_by(project: str) -> ColumnElement[bool]:
    return Job.project == project if project else true()
