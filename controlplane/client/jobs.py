"""The typed client of jobs."""

from collections.abc import Iterator

from controlplane.client.admin import AdminClient
from controlplane.contracts import jobs


class JobsClient(AdminClient):
    """One method a verb, as in AdminClient."""

    def run(self, ask: jobs.RunJob) -> jobs.Job:
        return self.send("POST", ("jobs",), ask, jobs.Job)

    def plan(self, ask: jobs.RunJob) -> jobs.JobPlan:
        return self.send("POST", ("job-plans",), ask, jobs.JobPlan)

    def list_jobs(self, *, project: str, every: bool) -> Iterator[jobs.JobLine]:
        return self.list_of("/jobs", jobs.JobLine, project=project, state="all" if every else "live")

    def get(self, job_id: str) -> jobs.Job:
        return self.send("GET", ("jobs", job_id), None, jobs.Job)

    def explain(self, job_id: str) -> jobs.JobExplanation:
        return self.send("GET", ("jobs", job_id, "explanation"), None, jobs.JobExplanation)

    def stop(self, job_id: str, index: int | None) -> jobs.Job:
        element = () if index is None else ("elements", str(index))
        return self.send("DELETE", ("jobs", job_id, *element), None, jobs.Job)

    def log(self, job_id: str, index: int | None, cursor: str) -> jobs.JobLog:
        asked = {"cursor": cursor} | ({} if index is None else {"index": str(index)})
        return self.read(self.path_of(("jobs", job_id, "log")), jobs.JobLog, **asked)
