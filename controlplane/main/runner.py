"""`python -m controlplane.main.runner --spec-env NAME`: one run inside a job."""

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from pydantic import ValidationError

from controlplane.contracts.runs import RunSpec
from controlplane.kit.log import configure_logging
from controlplane.runner.lease import Lease, guarded_loop
from controlplane.runner.run import run
from controlplane.runner.surroundings import Surroundings


def main() -> int:
    """Read the spec from the environment, where nobody below will find it, and live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec-env", required=True, help="the environment variable that holds the RunSpec as JSON")
    name = parser.parse_args().spec_env
    configure_logging("runner")
    try:
        spec = RunSpec.model_validate_json(os.environ.pop(name, ""))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in error.errors())
        print(f"{name} holds no run: {wrong}", file=sys.stderr)
        return 2
    lease = Lease(spec.lease_s, _seconds)
    with asyncio.Runner(loop_factory=lambda: guarded_loop(lease)) as runner:
        return runner.run(run(spec, _look_around(), lease))


def _look_around() -> Surroundings:
    return Surroundings(
        job_id=os.environ.get("SLURM_JOB_ID") or f"pid:{os.getpid()}",
        node=os.environ.get("SLURMD_NODENAME") or socket.gethostname().partition(".")[0],
        environment=dict(os.environ),
        scratch=Path(tempfile.gettempdir()),
        cpus=len(os.sched_getaffinity(0)),
        clock=_seconds,
    )


def _seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    sys.exit(main())
