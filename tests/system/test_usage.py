"""What Redoubt says was used of the GPUs is what Slurm's accounting says, to the second, job by job."""

import secrets
from datetime import datetime, timedelta

import pytest
from practice.site import PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

SUBMIT = (
    "runuser -u redoubt-serve -- sbatch --parsable --chdir=/tmp --output=/dev/null --requeue --time=5 {options}"
    " --job-name={name} --wrap='exec sleep {seconds}'"
)
STATE = "squeue --noheader --jobs={job} --states=all --format=%T | head -1"
# every start of each job by itself: its name, its seconds, its GPUs
ACCOUNTED = "sacct --allusers --duplicates -X --noheader --parsable2 --format=JobName,ElapsedRaw,AllocTRES,State"


def test_every_job_used_what_slurm_accounts_for_also_one_that_began_again(site: PracticeSite) -> None:
    since = datetime.fromisoformat(site.lab.ssh("ctl1", "date --iso-8601=seconds").stdout.strip())
    mark = secrets.token_hex(4)
    short = _submit(site, f"use{mark}a", "--gpus=1", seconds=7)
    again = _submit(site, f"use{mark}b", "--gpus=2", seconds=60)
    many = _submit(site, f"use{mark}c", "--gpus=1 --array=0-2", seconds=3)
    wait_for(lambda: _state(site, again) == "RUNNING", "the job that is to begin again")

    site.lab.ssh("ctl1", f"sleep 4; scontrol requeue {again}")
    wait_for(lambda: _state(site, again) == "RUNNING", "the job to begin again", within_s=120)
    site.lab.ssh("ctl1", f"sleep 4; scancel {again}")
    wait_for(lambda: all(_state(site, job) not in {"RUNNING", "PENDING"} for job in (short, many)), "the jobs to end")
    wait_for(
        lambda: _running(site, mark, since) == 0 and len(_counted(site, mark, since)) == 5, "every job in the ledger"
    )

    accounted, counted = _accounted(site, mark, since), _counted(site, mark, since)
    assert set(counted) == {f"use{mark}a", f"use{mark}b", *(f"use{mark}c.{task}" for task in range(3))}
    assert counted[f"use{mark}b"]["starts"] == 2
    for name, row in counted.items():
        base = name.partition(".")[0]
        if base == name:
            assert abs(row["gpu_seconds"] - accounted[name]) <= _gpus(name), (name, row, accounted[name])
    array = sum(row["gpu_seconds"] for name, row in counted.items() if "." in name)
    assert abs(array - accounted[f"use{mark}c"]) <= 3
    print({name: (row["gpu_seconds"], accounted.get(name)) for name, row in counted.items()})


def _submit(site: PracticeSite, name: str, options: str, *, seconds: int) -> str:
    command = SUBMIT.format(name=name, options=options.replace("--gpus=", "--gres=gpu:"), seconds=seconds)
    return site.lab.ssh("ctl1", command).stdout.strip()


def _state(site: PracticeSite, job: str) -> str:
    return site.lab.ssh("ctl1", STATE.format(job=job), check=False).stdout.strip()


def _gpus(name: str) -> int:
    return 2 if name.endswith("b") else 1


def _accounted(site: PracticeSite, mark: str, since: datetime) -> dict[str, int]:
    """Return GPU-seconds by the name of the job, as sacct tells its starts."""
    start = (since - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    lines = site.lab.ssh("ctl1", f"{ACCOUNTED} --starttime={start}").stdout.splitlines()
    found: dict[str, int] = {}
    for name, seconds, used, _state_word in (line.split("|") for line in lines if line.startswith(f"use{mark}")):
        gpus = next((int(word.split("=")[1]) for word in used.split(",") if word.startswith("gres/gpu=")), 0)
        found[name] = found.get(name, 0) + int(seconds) * gpus
    return found


def _counted(site: PracticeSite, mark: str, since: datetime) -> dict[str, dict[str, int]]:
    answer = site.redoubt_json("usage", "--by", "job", "--since", (since - timedelta(minutes=1)).isoformat())
    return {row["key"]: row for row in answer["rows"] if row["key"].startswith(f"use{mark}")}


def _running(site: PracticeSite, mark: str, since: datetime) -> int:
    return sum(row["running"] for row in _counted(site, mark, since).values())
