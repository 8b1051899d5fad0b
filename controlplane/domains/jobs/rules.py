"""What a run's next step is, what an array means, and why a run waits, in words with a way forward."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from controlplane.contracts.jobs import MOST_ELEMENTS, RunJob
from controlplane.domains.allocation.types import Explanation
from controlplane.domains.jobs.types import (
    STARTED,
    Begin,
    End,
    Keep,
    Miss,
    Promised,
    RunFact,
    RunState,
    Step,
    Wait,
    Why,
)
from controlplane.domains.shares.types import Quota
from controlplane.engines.port import EngineState, ObservedRun
from controlplane.kit.errors import BadInput

GONE_AFTER = timedelta(seconds=60)  # Slurm is polled every few seconds, and forgets a job minutes after its end
STOPPED_AFTER = timedelta(seconds=10)  # and of what is stopped before it ran it keeps nothing
REFUSED_STATUS = 79  # a supervisor that may not start its command; slurm.conf queues such a run again (RequeueExit)
WORST = (
    RunState.RUNNING, RunState.CHECKPOINTING, RunState.STOPPING, RunState.REQUEUED, RunState.QUEUED,
    RunState.FAILED, RunState.STOPPED, RunState.DONE,
)  # fmt: skip
RANGE = re.compile(r"(\d+)(?:-(\d+))?")

# Slurm's words (job_reason_codes.html of 24.11): the longest that a reason contains decides.
REASONS: dict[str, Why] = {
    "AssocGrpGRES": Why(
        "share {share}, or what it is a part of, uses all GPUs of its limit", "redoubt job list --project {project}"
    ),
    "AssocMaxGRESPerJob": Why("it asks for more GPUs than share {share} may use at once", "ask for fewer GPUs"),
    "AssocGrp": Why("share {share} has used up a limit of its account", "redoubt job list --project {project}"),
    "AssocMax": Why("it asks for more than share {share} may use at once", "ask for less"),
    "QOSGrpGRES": Why("its pool uses all GPUs of the pool's limit", "wait, or use another pool"),
    "QOSGrp": Why("its pool uses all of the pool's limit", "wait, or use another pool"),
    "QOSMax": Why("it asks for more than its pool lets one job have", "ask for less, or use another pool"),
    "QOSNotAllowed": Why("share {share} may not use its pool", "use another pool"),
    "Resources": Why("no node has what it asks for free just now", "wait; or ask for fewer GPUs, or less memory"),
    "Priority": Why("others with more priority wait for the same", "wait; it starts when its turn comes"),
    "ReqNodeNotAvail": Why(
        "the nodes that fit are down, drained or reserved", "redoubt node list says which and why"
    ),
    "Reserv": Why("a reservation keeps the nodes that fit", "wait until it ends, or ask for a shorter time limit"),
    "JobArrayTaskLimit": Why("as many of the array run as it lets run at once", "wait for its other elements"),
    "BeginTime": Why("it was queued again and may start in a moment", "wait a minute"),
    "PartitionTimeLimit": Why("its time limit is longer than its pool allows", "stop it and ask for less time"),
    "PartitionDown": Why("its partition is down", "ask an operator: sinfo says why"),
    "PartitionInactive": Why("its partition starts nothing now", "ask an operator: sinfo says why"),
    "InvalidAccount": Why("the scheduler does not know share {share} yet", "wait a moment; then ask an operator"),
    "InvalidQOS": Why("the scheduler does not know its class of work yet", "wait a moment; then ask an operator"),
    "Licenses": Why("a licence that it asks for is in use", "wait"),
    "Dependency": Why("an older run of the same name is not over", "wait"),
    "JobHeld": Why("an operator holds it in the scheduler", "ask an operator to release it"),
    "BadConstraints": Why("no node of the site can ever take it", "stop it and ask for what a node has"),
    "NodeDown": Why("a node that it needs is down", "redoubt node list"),
    "Cleaning": Why("what it left on its last node is being cleaned up", "wait"),
    "submitted": Why("handed to the scheduler", "wait a moment"),
}  # fmt: skip
# How Slurm says that a run did not end by itself.
ENDINGS: dict[str, Why] = {
    "out_of_memory": Why("it used more memory than it asked for and was killed", "ask for more with --memory"),
    "timeout": Why("its time limit has passed", "ask for more with --time, or have it checkpoint and requeue"),
    "node_fail": Why("its node was lost", "submit it again, with --requeue it would wait for another node"),
    "boot_fail": Why("its node did not come up", "submit it again"),
    "preempted": Why("it had to make room for other work", "submit it again, with --requeue it would wait"),
    "deadline": Why("its deadline has passed", "submit it again"),
    "cancelled": Why("it was cancelled in the scheduler", "ask an operator who did, or submit it again"),
    "time limit": Why("its time limit has passed", "ask for more with --time"),
}


def elements_of(array: str) -> tuple[int, ...]:
    """Return the indexes of "0-9%2" or "1,3,5-7", in order; raises ValueError with the fact."""
    found: set[int] = set()
    for part in array.partition("%")[0].split(","):
        match = RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{array!r} is no array: write 0-9 or 1,3,5-7, with %2 for two at once")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part} runs backwards: write {last}-{first}")
        found.update(range(first, last + 1))
    if len(found) > MOST_ELEMENTS or max(found) > MOST_ELEMENTS:
        raise ValueError(f"an array has {MOST_ELEMENTS} elements at most, numbered up to {MOST_ELEMENTS}")
    return tuple(sorted(found))


def run_id_of(job_id: str, index: int | None) -> str:
    """Return the name that a run has in the engine and in our books."""
    return job_id if index is None else f"{job_id}.{index}"


def at_once(array: str, runs: int) -> int:
    """Return how many of a job's runs may run at the same time."""
    limit = array.partition("%")[2]
    return min(runs, int(limit)) if limit else runs


def promised_gpus(jobs: Iterable[Promised], chains: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, str], int]:
    """Add up the GPUs that waiting work within a guarantee will take, for each share with all its parts, by type."""
    found: dict[tuple[str, str], int] = {}
    for job in jobs:
        soon = min(job.waiting, max(at_once(job.array, job.waiting + job.running) - job.running, 0))
        for share in chains.get(job.share, (job.share,)):
            found[share, job.gpu_type] = found.get((share, job.gpu_type), 0) + soon * job.gpus
    return found


def is_beyond(
    count: int, gpu_type: str, quotas: Iterable[Quota], used: Mapping[tuple[str, str], int],
    promised: Mapping[tuple[str, str], int],
) -> bool:  # fmt: skip
    """Say whether `count` more GPUs leave the guarantees of a chain of shares, those promised to waiting work counted.

    With "" for the type they do when they leave them for every type.
    """
    within: dict[str, bool] = {}
    for quota in quotas:
        if gpu_type in ("", quota.gpu_type):
            place = (quota.share, quota.gpu_type)
            taken = used.get(place, 0) + promised.get(place, 0) + promised.get((quota.share, ""), 0)
            within[quota.gpu_type] = within.get(quota.gpu_type, True) and taken + count <= quota.guaranteed
    return not any(within.values())


def nice_of(priority: int) -> int:
    """Return how much a run lets others of its class go first; only an operator of the scheduler could go below 0."""
    return (100 - priority) * 10


def summarise(states: Iterable[RunState]) -> RunState:
    """Return the state of a job: what lives decides, then the worst end."""
    found = set(states)
    return next((state for state in WORST if state in found), RunState.QUEUED)


def judge(run: RunFact, seen: ObservedRun | None, now: datetime) -> Step:
    """Say what an engine's word means for a run that is not over."""
    if seen is None:
        return _missing(run, now)
    match seen.state:
        case EngineState.ENDED:
            return _end(run, seen.reason, seen.status)
        case EngineState.WAITING:
            return Wait(explain(seen.reason, run.share, run.project), _why_again(run, seen.reason))
        case EngineState.RUNNING if run.restarts != seen.restarts:
            return Begin(seen.restarts, _why_again(run, seen.reason))
        case _:
            return Keep()


def state_after(run: RunFact, step: Step) -> RunState:
    """Return the state that a step leads to; a run that was asked to stop says so until it is over."""
    if isinstance(step, End):
        return step.state
    if run.stop_asked:
        return RunState.STOPPING
    match step:
        case Begin():
            return RunState.RUNNING
        case Wait() if run.state in STARTED or run.state == RunState.REQUEUED:
            return RunState.REQUEUED
        case Wait():
            return RunState.QUEUED
        case _:
            return run.state


def explain(reason: str, share: str, project: str = "") -> Why:
    """Turn an engine's reason into words with a way forward; one that we do not know is shown as it is."""
    known = [word for word in REASONS if word.lower() in reason.lower()]
    if not known:
        return Why(f"waits in the scheduler: {reason}" if reason else "waits in the scheduler", "redoubt job explain")
    why = REASONS[max(known, key=len)]
    names = {"share": share or "its project", "project": project or share or "PROJECT"}
    return Why(why.reason.format(**names), why.remedy.format(**names))


def _missing(run: RunFact, now: datetime) -> Step:
    """An engine that lists a run late is no news; one that forgets it has ended it."""
    if not run.is_submitted and run.restarts is None:
        return End(RunState.STOPPED, Why("stopped before it started"), None) if run.stop_asked else Keep()
    patience = STOPPED_AFTER if run.stop_asked else GONE_AFTER
    if run.missing_since is None or now - run.missing_since < patience:
        return Miss()
    return _end(run, "", run.said_status if run.said_status is not None else -1)


def _end(run: RunFact, reason: str, status: int) -> End:
    """Judge an end: the engine's own word first, then what the supervisor said, then the status."""
    said = run.said_status if run.said_status is not None else status
    if run.stop_asked:
        return End(RunState.STOPPED, Why("stopped as asked"), max(said, 0))
    forced = [why for word, why in ENDINGS.items() if word in reason.lower()]
    if forced and run.said_status is None:
        return End(RunState.FAILED, forced[0], max(status, 0))
    if run.refusal and said == REFUSED_STATUS:
        return End(RunState.FAILED, Why(run.refusal, "submit it again"), said)
    if said == 0:
        return End(RunState.DONE, Why("it ended with status 0"), 0)
    if said < 0:
        why = Why("the scheduler no longer knows it", "look at redoubt job logs, then submit it again")
        return End(RunState.FAILED, why, None)
    return End(RunState.FAILED, Why(_status_in_words(said, reason), "redoubt job logs says what it wrote"), said)


def _status_in_words(status: int, reason: str) -> str:
    words = f"it was killed by signal {status - 128}" if status > 128 else f"it ended with status {status}"
    return words if not reason or str(status) in reason else f"{words} ({reason})"


def _why_again(run: RunFact, reason: str) -> str:
    """Say why the start that lived is over, "" when none did; only what makes room is told to checkpoint before."""
    if run.restarts is None:
        return ""
    return "preempted" if run.state == RunState.CHECKPOINTING or "preempt" in reason.lower() else "requeued"


def notes_of(ask: RunJob, *, over_quota: bool) -> tuple[str, ...]:
    """Say what a person should know before they submit this."""
    notes = []
    if over_quota:
        notes.append("it is beyond what its share is guaranteed: any work within a guarantee may preempt it")
    if ask.pool == "training" and ask.requeues is not False and ask.checkpoint is None:
        notes.append("it may be preempted and starts anew then: give --checkpoint USR1@60 so that it loses little")
    return tuple(notes)


def words_of(now: Explanation) -> tuple[str, ...]:
    """Return what allocation says to an ask, in lines: why not, what would make it fit, or where it fits now."""
    if now.fits:
        where = f"it would fit now on {', '.join(now.nodes[:3])}"
        return (f"{where}, by preempting {len(now.preempts)} runs" if now.preempts else where,)
    return (*now.reasons, *(f"it fits after: {way}" for way in now.would_fit))


def parse_cursor(cursor: str) -> tuple[int, int]:
    """Read where a reader of a log is; "" is the beginning. Raises BadInput for what is none."""
    restarts, dot, sequence = cursor.partition(".")
    if not cursor:
        return (0, -1)
    if not (dot and restarts.isdecimal() and sequence.lstrip("-").isdecimal() and len(cursor) < 30):
        raise BadInput("the cursor is not one of ours", remedy="start again without a cursor")
    return int(restarts), int(sequence)


def to_cursor(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"
