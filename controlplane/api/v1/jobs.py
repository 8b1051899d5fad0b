"""Jobs: what people ask of them, and what the supervisors of their starts say."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from controlplane.api.v1.paging import Paged, rows
from controlplane.contracts import jobs as contracts
from controlplane.contracts.admin import Rows
from controlplane.domains.jobs.service import asks, starts
from controlplane.domains.jobs.service.asks import JobView
from controlplane.domains.jobs.tables import JobOutput, JobRun, JobStart
from controlplane.web.actor import Bearer, Person, bearer_of
from controlplane.web.once import Posted
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["jobs"])
Index = Annotated[int | None, Query(ge=0, le=9999, description="an element of an array")]


@router.post("/jobs", status_code=201, response_model=contracts.Job)
async def run_job(body: contracts.RunJob, call: Posted) -> Response:
    """Submit a job that was admitted; it starts in the background, and `reason` says what it waits for."""
    return call.created(to_job(await asks.submit_job(call.tx, call.actor, ask=body)))


@router.post("/job-plans")
async def plan_job(body: contracts.RunJob, tx: Transaction, actor: Person) -> contracts.JobPlan:
    """Say what a submission would be, or why it is refused; nothing is written."""
    return await asks.plan_job(tx, actor, ask=body)


@router.get("/jobs")
async def list_jobs(
    tx: Transaction,
    actor: Person,
    page: Paged,
    project: Annotated[str, Query(max_length=32)] = "",
    state: Annotated[str, Query(pattern="^(live|all)$")] = "all",
) -> Rows[contracts.JobLine]:
    """List jobs, the newest first."""
    found = await asks.list_jobs(tx, actor, page=page, project=project, live=state == "live")
    return rows(page, found, to_line, lambda view: view.job.number)


@router.get("/jobs/{job_id}")
async def get_job(job_id: str, tx: Transaction, actor: Person) -> contracts.Job:
    return to_job(await asks.get_job(tx, actor, job_id=job_id))


@router.get("/jobs/{job_id}/explanation")
async def explain_job(job_id: str, tx: Transaction, actor: Person) -> contracts.JobExplanation:
    """Say why a job is as it is, and what would change that."""
    return await asks.explain_job(tx, actor, job_id=job_id)


@router.delete("/jobs/{job_id}")
async def stop_job(job_id: str, tx: Transaction, actor: Person) -> contracts.Job:
    """Ask a job to end; it gets its grace."""
    return to_job(await asks.stop_job(tx, actor, job_id=job_id, index=None))


@router.delete("/jobs/{job_id}/elements/{index}")
async def stop_element(job_id: str, index: int, tx: Transaction, actor: Person) -> contracts.Job:
    """Ask one element of an array to end."""
    return to_job(await asks.stop_job(tx, actor, job_id=job_id, index=index))


@router.get("/jobs/{job_id}/log")
async def read_log(
    job_id: str,
    tx: Transaction,
    actor: Person,
    index: Index = None,
    cursor: Annotated[str, Query(max_length=40)] = "",
) -> contracts.JobLog:
    """Return what a run wrote after `cursor`; ask again with the answer's cursor until `is_over`."""
    view = await asks.read_log(tx, actor, job_id=job_id, index=index, cursor=cursor)
    parts = tuple(_to_part(part) for part in view.parts)
    return contracts.JobLog(run_id=view.run_id, parts=parts, cursor=view.cursor, is_over=view.is_over)


@router.post("/job-runs", status_code=201)
async def register_start(body: contracts.RegisterJobRun, tx: Transaction) -> contracts.RegisteredJobRun:
    return await starts.register_start(tx, ask=body)


@router.post("/job-runs/{run_id}/lease")
async def renew_start(
    run_id: str, body: contracts.RenewJobRun, tx: Transaction, credentials: Bearer
) -> contracts.RenewedJobRun:
    return await starts.renew_start(tx, run_id=run_id, token=bearer_of(credentials), ask=body)


@router.post("/job-runs/{run_id}/output")
async def take_output(
    run_id: str, body: contracts.ShipOutput, tx: Transaction, credentials: Bearer
) -> contracts.ShippedOutput:
    return await starts.take_output(tx, run_id=run_id, token=bearer_of(credentials), ask=body)


def to_line(view: JobView) -> contracts.JobLine:
    return contracts.JobLine.model_validate(_line(view))


def to_job(view: JobView) -> contracts.Job:
    job = view.job
    checkpoint = {"signal": job.signal, "before_s": job.signal_before_s} if job.signal else None
    same = ("gpu_memory_bytes", "cpus", "memory_mb", "zone", "time_limit_s", "array", "requeues", "priority")
    return contracts.Job.model_validate(
        {
            **_line(view),
            **{name: getattr(job, name) for name in same},
            "command": tuple(job.command),
            "variables": tuple(sorted(job.environment)),
            "checkpoint": checkpoint,
            "remedy": view.first.remedy if view.first else "",
            "elements": tuple(_to_run(run, view.starts.get(run.id)) for run in view.runs),
        }
    )


def _line(view: JobView) -> dict[str, object]:
    job, first = view.job, view.first
    same = ("id", "name", "share", "project", "pool", "state", "gpus", "gpu_type", "over_quota", "made_by")
    return {
        **{name: getattr(job, name) for name in (*same, "created_at", "ended_at")},
        "node": first.node if first else "",
        "reason": first.reason if first else "",
        "runs": view.count,
    }


def _to_run(run: JobRun, start: JobStart | None) -> contracts.JobRun:
    return contracts.JobRun(
        id=run.id,
        index=run.array_index,
        state=run.state,
        reason=run.reason,
        remedy=run.remedy,
        node=run.node,
        gpus=tuple(start.gpu_uuids) if start is not None and start.ended_at is None else (),
        restarts=start.restarts if start is not None else 0,
        status=run.status,
        started_at=run.started_at,
        ended_at=run.ended_at,
        heard_at=start.heard_at if start is not None else None,
    )


def _to_part(part: JobOutput) -> contracts.LogPart:
    # built without validation, which would decode bytes that are not encoded yet
    return contracts.LogPart.model_construct(
        None, restarts=part.restarts, sequence=part.sequence, stream=part.stream, at=part.at, data=part.data
    )
