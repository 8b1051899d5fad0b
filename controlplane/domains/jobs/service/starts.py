"""What the supervisor of a start says: it registers once, renews, and ships what the command writes.

A job that is queued again starts with the environment of its first start, and so with the same nonce. The nonce alone
therefore opens nothing: a start is let in only while the engine itself tells of it, on that node, with that number of
restarts, and each number once. Its token is its own and says nothing about any other start.
"""

from collections.abc import Sequence
from hmac import compare_digest

from controlplane.contracts.jobs import (
    LOG_BYTES,
    JobPhase,
    OutputPart,
    RegisteredJobRun,
    RegisterJobRun,
    RenewedJobRun,
    RenewJobRun,
    ShipOutput,
    ShippedOutput,
)
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet import service as fleet
from controlplane.domains.jobs import store
from controlplane.domains.jobs.tables import Job, JobOutput, JobRun, JobStart
from controlplane.domains.jobs.types import OVER, RunState
from controlplane.domains.pki import service as pki
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import Conflict, Denied, Throttled, Unauthenticated
from controlplane.kit.tx import Tx

ASK_AGAIN_S = 1
PART_OVERHEAD = 256  # what a part costs beside its bytes, so that many small ones are bounded too
KEPT_BYTES = LOG_BYTES + LOG_BYTES // 8  # a supervisor cuts at LOG_BYTES itself, and says where
UNKNOWN = "unknown run, nonce or token"
REMEDY = "the start ends; the scheduler decides what comes next"


async def register_start(tx: Tx, *, ask: RegisterJobRun) -> RegisteredJobRun:
    """Let a start in once, or say why its command must not run. Raises Throttled while the engine told nothing of it.

    A start that asks again with its own token, because an answer was lost, is answered again.
    """
    actor = Actor(ask.run_id, Role.RUN)
    await policy.require(tx, actor, "job.register", ask.run_id)
    run = await store.find_run(tx, ask.run_id)
    job = await tx.session.get(Job, run.job_id) if run is not None else None
    if run is None or job is None or not compare_digest(job.nonce.encode(), ask.nonce.encode()):
        raise Unauthenticated(UNKNOWN, remedy=REMEDY)
    start = await _find_open(tx, run, ask)
    await _require_node(tx, start, ask.node)
    digest = sha256_hex(ask.token.encode())
    if start.token_sha256:
        if not compare_digest(start.token_sha256, digest):
            raise Unauthenticated("this start has registered before", remedy=REMEDY)
        return RegisteredJobRun(refusal=start.refusal)
    start.refusal = start.refusal or await _refusal(tx, job, start, ask.gpu_uuids)
    start.token_sha256, start.registered_at, start.heard_at = digest, tx.now, tx.now
    run.engine_ref, run.reason, run.remedy = ask.engine_ref, "", ""
    event = "job.start_refused" if start.refusal else "job.registered"
    facts = {"node": start.node, "restarts": start.restarts, "gpus": list(ask.gpu_uuids)}
    await audit.record(tx, actor, event, run.id, reason=start.refusal, **facts)
    return RegisteredJobRun(refusal=start.refusal)


async def renew_start(tx: Tx, *, run_id: str, token: str, ask: RenewJobRun) -> RenewedJobRun:
    """Hear from a start. One that another has taken over from, or whose run is over, is told to kill its command."""
    actor = Actor(run_id, Role.RUN)
    await policy.require(tx, actor, "job.renew", run_id)
    run, start = await _authenticate(tx, run_id, ask.restarts, token)
    start.heard_at = tx.now
    if ask.phase == JobPhase.ENDED and start.said_status is None:
        start.said_status = ask.status
        await audit.record(tx, actor, "job.command_ended", run_id, restarts=start.restarts, status=ask.status)
    if ask.phase == JobPhase.REFUSED and not start.refusal:
        start.refusal = ask.detail or "its supervisor could not start the command"
        await audit.record(tx, actor, "job.start_refused", run_id, restarts=start.restarts, reason=start.refusal)
    if start.ended_at is not None or run.restarts != start.restarts or run.state in OVER:
        return RenewedJobRun(keep=False, stop=True)
    if ask.phase == JobPhase.CHECKPOINTING and run.state == RunState.RUNNING:
        run.state, run.stamp = RunState.CHECKPOINTING, run.stamp + 1
        await audit.record(tx, actor, "job.checkpointing", run_id, restarts=start.restarts, node=start.node)
    return RenewedJobRun(keep=True, stop=run.stop_asked_at is not None)


async def take_output(tx: Tx, *, run_id: str, token: str, ask: ShipOutput) -> ShippedOutput:
    """Keep what comes next of a start's output. What was taken before is not taken again, and no gap is left.

    A start that is over may still ship what its node kept.
    """
    await policy.require(tx, Actor(run_id, Role.RUN), "job.ship_output", run_id)
    run, start = await _authenticate(tx, run_id, ask.restarts, token)
    job = await tx.session.get_one(Job, run.job_id)
    start.heard_at = tx.now
    if ask.first_sequence > start.next_part:
        return ShippedOutput(next_sequence=start.next_part, is_full=False)
    fresh = ask.parts[start.next_part - ask.first_sequence :]
    is_full = job.log_deleted_at is not None or run.log_bytes + _cost(fresh) > KEPT_BYTES
    if not is_full:
        _add_parts(tx, start, fresh)
        run.log_bytes += _cost(fresh)
    elif job.log_deleted_at is None and run.log_bytes < KEPT_BYTES:
        _add_parts(tx, start, [_full(tx)])
        run.log_bytes = KEPT_BYTES
    start.next_part += len(fresh)
    start.is_log_over = start.is_log_over or ask.is_last
    return ShippedOutput(next_sequence=start.next_part, is_full=is_full)


async def forget_old_output(tx: Tx, actor: Actor, *, jobs: Sequence[Job]) -> None:
    """Delete what these jobs wrote: they ended long ago."""
    await policy.require(tx, actor, "job.sweep", "site")
    for job in jobs:
        await store.delete_output(tx, job.id)
        job.log_deleted_at = tx.now
        await audit.record(tx, SYSTEM, "job.output_deleted", job.id)


async def _find_open(tx: Tx, run: JobRun, ask: RegisterJobRun) -> JobStart:
    """Return the start that the engine tells of; an older one, and one of a run that is over, may not begin."""
    if run.state in OVER:
        raise Conflict(f"the run is {run.state}", remedy=REMEDY)
    if run.restarts is not None and ask.restarts < run.restarts:
        raise Conflict(f"start {run.restarts} has taken over from start {ask.restarts}", remedy=REMEDY)
    start = await store.find_start(tx, run.id, ask.restarts) if run.restarts == ask.restarts else None
    if start is None:
        raise Throttled(
            f"the scheduler has not told of start {ask.restarts} yet", remedy="ask again", wait_s=ASK_AGAIN_S
        )
    return start


async def _require_node(tx: Tx, start: JobStart, node: str) -> None:
    if node != start.node:
        raise Denied(f"the scheduler started it on {start.node}, not on {node}", remedy=REMEDY)
    if any(refused.node == node and refused.before is None for refused in await pki.list_refusals(tx)):
        raise Denied(f"node {node} was revoked", remedy="drain it in the scheduler; redoubt node join-token lets it in")


async def _refusal(tx: Tx, job: Job, start: JobStart, gpu_uuids: Sequence[str]) -> str:
    """Say why a command must not run on what its start was given; "" lets it."""
    if len(gpu_uuids) < job.gpus:
        return f"{job.gpus} GPUs were asked for and {len(gpu_uuids)} answer on {start.node}"
    if job.gpus and set(gpu_uuids) != set(start.gpu_uuids):
        return f"the driver of {start.node} shows other GPUs than the scheduler gave: {', '.join(sorted(gpu_uuids))}"
    cordons = await fleet.cordoned_gpus(tx)
    return "; ".join(f"GPU {uuid} is cordoned" for uuid in gpu_uuids if uuid in cordons)


async def _authenticate(tx: Tx, run_id: str, restarts: int, token: str) -> tuple[JobRun, JobStart]:
    run = await store.find_run(tx, run_id)
    start = await store.find_start(tx, run_id, restarts) if run is not None else None
    digest = sha256_hex(token.encode())
    if run is None or start is None or not compare_digest(start.token_sha256, digest):
        raise Unauthenticated(UNKNOWN, remedy=REMEDY)
    return run, start


def _add_parts(tx: Tx, start: JobStart, parts: Sequence[OutputPart]) -> None:
    for number, part in enumerate(parts, start=start.next_part):
        row = JobOutput(
            run_id=start.run_id,
            restarts=start.restarts,
            sequence=number,
            stream=part.stream,
            at=part.at,
            data=part.data,
        )
        store.add(tx, row)


def _full(tx: Tx) -> OutputPart:
    words = f"\n[redoubt: the log of this run is full at {KEPT_BYTES >> 20} MiB; nothing more of it is kept]\n"
    return OutputPart.model_construct(None, stream="redoubt", at=tx.now, data=words.encode())


def _cost(parts: Sequence[OutputPart]) -> int:
    return sum(len(part.data) + PART_OVERHEAD for part in parts)
