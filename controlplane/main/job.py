"""`python -m controlplane.main.job --spec-env NAME`: the supervisor of one start of a job, as the project's user."""

import argparse
import asyncio
import os
import socket
import sys

from pydantic import ValidationError

from controlplane.contracts.jobs import JobSpec
from controlplane.kit.clock import SystemClock
from controlplane.kit.log import configure_logging
from controlplane.runner.job_run import JobSurroundings, supervise


def main() -> int:
    """Read the spec from the environment, where the command will not find it, and live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec-env", required=True, help="the environment variable that holds the JobSpec as JSON")
    name = parser.parse_args().spec_env
    configure_logging("job")
    os.umask(0o077)  # /tmp of a node is everybody's
    try:
        spec = JobSpec.model_validate_json(os.environ.pop(name, ""))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in error.errors())
        print(f"{name} holds no job: {wrong}", file=sys.stderr)
        return 2
    return asyncio.run(supervise(spec, _look_around(spec)))


def _look_around(spec: JobSpec) -> JobSurroundings:
    index = os.environ.get("SLURM_ARRAY_TASK_ID") if spec.is_array else None
    return JobSurroundings(
        engine_ref=os.environ.get("SLURM_JOB_ID") or f"pid:{os.getpid()}",
        node=os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0],
        index=int(index) if index is not None else None,
        restarts=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        environment=dict(os.environ),
        now=SystemClock().now,
    )


if __name__ == "__main__":
    sys.exit(main())
