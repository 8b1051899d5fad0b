"""The REST API v0.0.42 (Slurm 24.11 and later): paths and shapes, nothing decided."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any  # Slurm's answers are JSON; each field read is converted here

from controlplane.engines.slurm.job import MARK, Job, read_gpu_indexes
from controlplane.engines.slurm.rest import SlurmRest
from controlplane.engines.slurm.submission import Submission
from controlplane.kit.errors import Unavailable

VERSION = "v0.0.42"
GONE = frozenset({2017, 2021})  # invalid job id, already completing or completed


class Api:
    """The calls that the engine needs."""

    def __init__(self, rest: SlurmRest) -> None:
        self._rest = rest

    async def submit(self, asked: Submission) -> tuple[int, tuple[str, ...]]:
        """Return the job's number and Slurm's warnings; raises SlurmSaysNo."""
        ask = {"script": asked.script, "job": _write_job(asked)}
        answer = await self._rest.call("POST", self._path("job/submit"), user=asked.user, body=ask)
        return int(answer["job_id"]), tuple(_tell(warning) for warning in answer.get("warnings", []))

    async def list_jobs(self) -> list[Job]:
        answer = await self._rest.call("GET", self._path("jobs/"))
        return [parse_job(job) for job in answer["jobs"]]

    async def list_nodes(self) -> tuple[str, ...]:
        answer = await self._rest.call("GET", self._path("nodes/"))
        return tuple(str(node["name"]) for node in answer["nodes"])

    async def signal(self, ref: str, name: str, *, user: str) -> None:
        """Signal the batch process alone; a job that is gone is a success."""
        await self._delete(ref, user, {"signal": name, "flags": "BATCH_JOB"})

    async def cancel(self, ref: str, *, user: str) -> None:
        """End it Slurm's way: out of the queue, or SIGTERM and after KillWait SIGKILL; gone is a success."""
        await self._delete(ref, user, {})

    async def _delete(self, ref: str, user: str, query: Mapping[str, str]) -> None:
        answer = await self._rest.call("DELETE", self._path(f"job/{ref}"), user=user, query=query)
        for status in answer.get("status", []):  # errors of single jobs come with 200
            error = status.get("error", {})
            if int(error.get("code", 0)) not in GONE | {0}:
                raise Unavailable(f"Slurm did not end job {ref}: {error.get('message')}", remedy="this is tried again")

    def _path(self, rest: str) -> str:
        return f"/slurm/{VERSION}/{rest}"


def _write_job(asked: Submission) -> dict[str, Any]:
    log = f"{asked.folder}/%x.%a.log" if asked.array else f"{asked.folder}/%x.log"
    job: dict[str, Any] = {
        "name": asked.name,
        "comment": MARK,
        "partition": asked.partition,
        "current_working_directory": asked.folder,
        "standard_output": log,
        "standard_error": log,
        "environment": [f"{name}={value}" for name, value in asked.environment.items()],
        "minimum_nodes": 1,
        "maximum_nodes": 1,
        "tasks": 1,
        "cpus_per_task": asked.cpus,
        "time_limit": _number(asked.time_limit_min),
        "requeue": asked.requeues,
        "dependency": "singleton",  # Slurm itself never runs two of one name
    }
    optional = {"account": asked.account, "qos": asked.qos, "tres_per_node": asked.gpus, "array": asked.array}
    job |= {name: value for name, value in optional.items() if value}
    if asked.requeues:
        job["open_mode"] = ["APPEND"]  # what it said before it was preempted stays
    if asked.nice:
        job["nice"] = asked.nice
    if asked.memory_mb:
        job["memory_per_node"] = _number(asked.memory_mb)
    if asked.avoid_nodes:
        job["excluded_nodes"] = list(asked.avoid_nodes)
    if asked.only_node:
        job["required_nodes"] = [asked.only_node]
    if asked.warning is not None:  # to the batch process, which is the command itself
        job["kill_warning_flags"] = ["BATCH_JOB"]
        job["kill_warning_signal"] = asked.warning.signal
        job["kill_warning_delay"] = _number(asked.warning.before_s)
    return job


def parse_job(job: Mapping[str, Any]) -> Job:
    ended = job["exit_code"]
    array = read_number(job.get("array_job_id"))
    return Job(
        job_id=int(job["job_id"]),
        name=str(job["name"]),
        user=str(job["user_name"]),
        partition=str(job["partition"]),
        states=frozenset(job["job_state"]),
        reason=str(job["state_reason"]),
        nodes=str(job["nodes"]),
        status=int(ended["return_code"]["number"]),
        signal=str(ended["signal"]["name"]),
        gpu_indexes=read_gpu_indexes(job.get("gres_detail") or []),
        started_at=read_time(job.get("start_time")),
        ended_at=read_time(job.get("end_time")),
        restarts=int(job.get("restart_cnt") or 0),
        array=array,
        tasks=_read_tasks(job) if array else "",
        comment=str(job.get("comment") or ""),
    )


def read_number(given: Mapping[str, Any] | int | None) -> int:
    """Return Slurm's {"set", "infinite", "number"} as a number; 0 where it has none."""
    if isinstance(given, int):
        return given
    return int(given["number"]) if given and given.get("set") and not given.get("infinite") else 0


def read_time(given: Mapping[str, Any] | int | None) -> datetime | None:
    seconds = read_number(given)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _read_tasks(job: Mapping[str, Any]) -> str:
    """Return the element's number, or for those that still wait together all their numbers."""
    task = job.get("array_task_id") or {}
    return str(task["number"]) if task.get("set") else str(job.get("array_task_string") or "")


def _number(value: int) -> dict[str, Any]:
    return {"set": True, "number": value}


def _tell(warning: Mapping[str, Any]) -> str:
    return str(warning.get("description", warning))
