"""The REST API v0.0.42 (Slurm 24.11 and later): paths and shapes, nothing decided."""

from collections.abc import Mapping
from typing import Any  # Slurm's answers are JSON; each field read is converted here

from controlplane.engines.slurm.job import Job
from controlplane.engines.slurm.rest import SlurmRest
from controlplane.engines.slurm.submission import Submission
from controlplane.kit.errors import Unavailable

VERSION = "v0.0.42"
GONE = frozenset({2017, 2021})  # invalid job id, already completing or completed


class Api:
    """The four calls that the engine needs."""

    def __init__(self, rest: SlurmRest) -> None:
        self._rest = rest

    async def submit(self, asked: Submission) -> tuple[int, tuple[str, ...]]:
        """Return the job's number and Slurm's warnings; raises SlurmSaysNo."""
        job: dict[str, Any] = {
            "name": asked.name,
            "partition": asked.partition,
            "current_working_directory": asked.folder,
            "standard_output": f"{asked.folder}/%x.log",
            "standard_error": f"{asked.folder}/%x.log",
            "environment": [f"{name}={value}" for name, value in asked.environment.items()],
            "minimum_nodes": 1,
            "maximum_nodes": 1,
            "tasks": 1,
            "time_limit": {"set": True, "number": asked.time_limit_min},
            "requeue": False,  # its nonce registers once: a second start is a second replica
            "dependency": "singleton",  # Slurm itself never runs two of one name
        }
        optional = {"account": asked.account, "qos": asked.qos, "tres_per_node": asked.gpus}
        job |= {name: value for name, value in optional.items() if value}
        if asked.avoid_nodes:
            job["excluded_nodes"] = list(asked.avoid_nodes)
        answer = await self._rest.call("POST", self._path("job/submit"), body={"script": asked.script, "job": job})
        return int(answer["job_id"]), tuple(_tell(warning) for warning in answer.get("warnings", []))

    async def list_jobs(self) -> list[Job]:
        answer = await self._rest.call("GET", self._path("jobs/"))
        return [_parse(job) for job in answer["jobs"]]

    async def signal(self, job_id: int, name: str) -> None:
        """Signal the batch process alone; a job that is gone is a success."""
        await self._delete(job_id, {"signal": name, "flags": "BATCH_JOB"})

    async def cancel(self, job_id: int) -> None:
        """End it Slurm's way: out of the queue, or SIGTERM and after KillWait SIGKILL; gone is a success."""
        await self._delete(job_id, {})

    async def _delete(self, job_id: int, query: Mapping[str, str]) -> None:
        answer = await self._rest.call("DELETE", self._path(f"job/{job_id}"), query=query)
        for status in answer.get("status", []):  # errors of single jobs come with 200
            error = status.get("error", {})
            if int(error.get("code", 0)) not in GONE | {0}:
                raise Unavailable(
                    f"Slurm did not end job {job_id}: {error.get('message')}", remedy="this is tried again"
                )

    def _path(self, rest: str) -> str:
        return f"/slurm/{VERSION}/{rest}"


def _parse(job: Mapping[str, Any]) -> Job:
    ended = job["exit_code"]
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
    )


def _tell(warning: Mapping[str, Any]) -> str:
    return str(warning.get("description", warning))
