"""The scheduler's controller dies: the second one goes on with what it knew, and hands back when the first returns."""

from collections.abc import Iterator

import pytest
from practice.site import ENDPOINT, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

FIRST, SECOND = "ctl1", "store1"
WORDS = "--account=redoubt --partition=inference --qos=inference --mem=64 --time=1 --chdir=/tmp --output=/dev/null"
SUBMIT = f"sbatch --uid=2001 --gid=2001 {WORDS} --export=NIL --parsable --wrap='sleep 1'"


@pytest.fixture
def killed(site: PracticeSite) -> Iterator[int]:
    """Kill the first controller and keep it dead; yield the number of the last job that it took."""
    last = submit(site)
    site.lab.ssh(FIRST, "systemctl mask --runtime --quiet slurmctld && systemctl kill --signal=KILL slurmctld")
    yield last
    site.lab.ssh(FIRST, "systemctl unmask --runtime --quiet slurmctld; systemctl restart slurmctld")
    wait_for(lambda: answering(site) == [FIRST, SECOND], "both controllers")


def test_the_second_controller_goes_on_and_the_first_takes_back(site: PracticeSite, killed: int) -> None:
    before = ready(site)

    took_s = wait_for(lambda: answering(site) == [SECOND] and submit(site) > killed, "the second controller")
    print(f"the second controller took a job {took_s:.1f} s after the first was killed")
    job = submit(site)
    wait_for(lambda: ended(site, job), "a job of the second controller", within_s=60)
    site.redoubt("endpoint", "scale", ENDPOINT, "2", "--wait", 90)  # over REST, with a token of the first one's key
    assert set(before) < set(ready(site))
    assert site.answers()

    site.lab.ssh(FIRST, "systemctl unmask --runtime --quiet slurmctld; systemctl start slurmctld")
    wait_for(lambda: answering(site) == [FIRST, SECOND], "both controllers")
    wait_for(lambda: submit(site) > job, "the first controller to take jobs")
    site.redoubt("endpoint", "scale", ENDPOINT, "1", "--wait", 90)
    wait_for(lambda: len(ready(site)) == 1, "one replica")
    assert site.answers()


def answering(site: PracticeSite) -> list[str]:
    """Return which controllers answer, asked where jobs run."""
    said = site.lab.ssh("gpu1", "scontrol ping", check=False).stdout
    return [name for name in (FIRST, SECOND) if f"at {name} is UP" in said]


def submit(site: PracticeSite) -> int:
    return int(site.lab.ssh(FIRST, f"SLURM_JWT=$(cat /run/redoubt-slurm/redoubt-serve) {SUBMIT}").stdout)


def ended(site: PracticeSite, job: int) -> bool:
    return not site.lab.ssh(FIRST, f"squeue --noheader --states=PD,CF,R,CG --jobs={job}", check=False).stdout.strip()


def ready(site: PracticeSite) -> list[str]:
    replicas = site.redoubt_json("endpoint", "show", ENDPOINT)["replicas"]
    return [str(replica["id"]) for replica in replicas if replica["state"] == "ready"]
