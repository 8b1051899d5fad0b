"""From inside a real Slurm job of one project: nothing of another project, of an endpoint or of the node is in reach.

Each attempt is made twice by the same program: by the owner, where it has to succeed, and by the hostile job.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # what a job says is plain JSON

import pytest
from practice.site import ENDPOINT, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

HOSTILE, OWNER = 15, 16  # the last slots: no project of other tests takes them
PASSING = "passing"  # the name of jobs that end with their test
PROGRAM = Path(__file__).with_name("hostile.py")
OWNERS_JOB = """
echo s > secret
python3 -m http.server --bind 0.0.0.0 {port} >/dev/null 2>&1 &
sleep 1; echo $$ $SLURM_JOB_GPUS > about.new; mv about.new about
until test -e go; do sleep 0.3; done
bash go > said.new; mv said.new said
sleep 600
"""
# What the owner reaches and the hostile job does not.
OWNED = (
    "gpu", "file", "home", "memory", "environment", "port on loopback", "port",
)  # fmt: skip
# What no job reaches, whoever's it is.
NOBODYS = (
    "job seen", "job shown", "endpoint files", "endpoint port", "cluster key", "node key", "another submission",
    "database", "agents' api", "ssh",
)  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """What both said about the owner's job, which still runs."""

    job: int
    node: str
    by_owner: dict[str, Any]
    by_hostile: dict[str, Any]


@pytest.fixture(scope="module")
def tried(site: PracticeSite) -> Iterator[Tried]:
    """Run the owner's job beside an endpoint, then the hostile job beside both."""
    for slot in (HOSTILE, OWNER):
        site.lab.ssh("ctl1", f"sacctmgr -i add account iso{slot} parent=site cluster=redoubt")
        site.lab.ssh("ctl1", f"sacctmgr -i add user {user(slot)} account=iso{slot} cluster=redoubt")
    try:
        yield attempt(site)
    finally:
        for slot in (HOSTILE, OWNER):
            site.lab.ssh("ctl1", f"scancel --user={user(slot)}", check=False)
            site.lab.ssh("ctl1", f"while squeue -ho %i --user={user(slot)} | grep -q .; do sleep 0.3; done")
            site.lab.ssh("ctl1", f"sacctmgr -i delete user {user(slot)} account=iso{slot}", check=False)
            site.lab.ssh("ctl1", f"sacctmgr -i delete account iso{slot}", check=False)
            for node in ("gpu1", "gpu2"):
                site.lab.ssh(node, f"rm -f {home(slot)}/*")


@pytest.mark.parametrize("what", OWNED)
def test_what_the_owner_reaches_another_projects_job_does_not(tried: Tried, what: str) -> None:
    assert tried.by_owner[what] == "open"
    assert tried.by_hostile[what] != "open"


@pytest.mark.parametrize("what", NOBODYS)
def test_no_job_reaches_what_is_no_jobs(tried: Tried, what: str) -> None:
    assert tried.by_owner[what] != "open"
    assert tried.by_hostile[what] != "open"


def test_a_job_reaches_the_api_that_its_supervisor_speaks_to(tried: Tried) -> None:
    assert tried.by_hostile["admin api"] == "open"


def test_a_job_sees_processes_of_its_own_user_alone(tried: Tried) -> None:
    assert tried.by_hostile["users seen"] == [2100 + HOSTILE]


def test_what_no_job_reaches_is_there_for_those_it_belongs_to(site: PracticeSite, tried: Tried) -> None:
    """Without this the attempts above might have failed because there was nothing to reach."""
    site.lab.ssh(tried.node, "test -s /etc/slurm/slurm.key && ls /etc/redoubt/tls/node /var/lib/redoubt-serve")
    site.lab.ssh(tried.node, f"ss -tlnH 'sport = :{endpoint_port(site, tried.node)}' | grep -q .")
    site.lab.ssh("ctl1", "runuser -u redoubt -- bash -c 'echo > /dev/tcp/store1/5432'")
    assert submit(site, HOSTILE, tried.node, "true") > tried.job


def test_only_its_owner_ends_a_job(site: PracticeSite, tried: Tried) -> None:
    site.lab.ssh("ctl1", f"{as_user(HOSTILE)} scancel {tried.job}", check=False)
    assert state(site, tried.job) == "RUNNING"
    site.lab.ssh("ctl1", f"{as_user(OWNER)} scancel {tried.job}")

    wait_for(lambda: state(site, tried.job) != "RUNNING", "the end of the job", within_s=45)


@pytest.mark.usefixtures("tried")
def test_who_listens_on_anothers_port_answers_nobody(site: PracticeSite) -> None:
    """Else a hostile job could stand where the owner's next one looks for its own."""
    squatted, address = port(OWNER) + 7, address_of(site, "gpu1")
    listen = f"python3 -m http.server --bind 0.0.0.0 {squatted} >/dev/null 2>&1"
    get = f"import urllib.request as web; web.urlopen('http://{address}:{squatted}/', timeout=4).read()"
    ask = f'python3 -c "{get}" 2>/dev/null && echo answered || echo nothing'

    squatter = submit(site, HOSTILE, "gpu1", listen)
    wait_for(lambda: bool(site.lab.ssh("gpu1", f"ss -tlnH 'sport = :{squatted}'").stdout), "the squatter")
    assert run(site, OWNER, "gpu1", ask) == "nothing"
    assert run(site, OWNER, "gpu2", ask) == "nothing"
    site.lab.ssh("ctl1", f"{as_user(HOSTILE)} scancel {squatter}")

    wait_for(lambda: not site.lab.ssh("gpu1", f"ss -tlnH 'sport = :{squatted}'").stdout, "it to end", within_s=60)
    submit(site, OWNER, "gpu1", listen)
    wait_for(lambda: bool(site.lab.ssh("gpu1", f"ss -tlnH 'sport = :{squatted}'").stdout), "the owner's own")
    assert run(site, OWNER, "gpu1", ask) == "answered"


@pytest.mark.usefixtures("tried")
def test_processes_of_a_project_find_each_other_on_ports_that_the_kernel_gave_out(site: PracticeSite) -> None:
    """As those of NCCL and MPI do, which ask for any port."""
    listen = (
        "import socket, time; server = socket.socket(); server.bind(('127.0.0.1', 0)); server.listen(); "
        "open('given', 'w').write(str(server.getsockname()[1])); time.sleep(120)"
    )
    submit(site, OWNER, "gpu1", f'python3 -c "{listen}"')
    wait_for(lambda: bool(read(site, "gpu1", f"{home(OWNER)}/given")), "the listener")
    given = read(site, "gpu1", f"{home(OWNER)}/given")
    reach = f"timeout 3 bash -c 'echo > /dev/tcp/127.0.0.1/{given}' && echo open || echo closed"

    assert run(site, OWNER, "gpu1", reach) == "open"
    assert run(site, HOSTILE, "gpu1", reach) == "closed"


@pytest.mark.usefixtures("tried")
def test_a_job_on_another_node_does_not_reach_the_port_either_and_its_own_project_does(site: PracticeSite) -> None:
    here, there = "gpu1", "gpu2"
    address = address_of(site, here)
    listener = submit(site, OWNER, here, f"python3 -m http.server --bind 0.0.0.0 {port(OWNER) + 1} >/dev/null 2>&1")
    wait_for(lambda: bool(site.lab.ssh(here, f"ss -tlnH 'sport = :{port(OWNER) + 1}'").stdout), "the listener")
    reach = f"timeout 3 bash -c 'echo > /dev/tcp/{address}/{port(OWNER) + 1}' && echo open || echo closed"

    assert run(site, OWNER, there, reach) == "open"
    assert run(site, HOSTILE, there, reach) == "closed"
    assert state(site, listener) == "RUNNING"


def attempt(site: PracticeSite) -> Tried:
    replicas = site.redoubt_json("endpoint", "show", ENDPOINT)["replicas"]
    node = next(str(replica["node"]) for replica in replicas if replica["state"] == "ready")
    job = submit(site, OWNER, node, OWNERS_JOB.format(port=port(OWNER)), name="kept")
    about = f"{home(OWNER)}/about"
    wait_for(lambda: bool(read(site, node, about)), "the owner's job", within_s=60)
    pid, gpu = read(site, node, about).split()
    other = {
        "pid": int(pid), "job": job, "gpu": int(gpu), "home": home(OWNER), "port": port(OWNER),
        "address": address_of(site, node), "endpoint_port": endpoint_port(site, node), "account": f"iso{OWNER}",
        "database": address_of(site, "store1"), "control_plane": address_of(site, "ctl1"),
    }  # fmt: skip
    site.lab.ssh(node, f"cat > {home(OWNER)}/go.new && mv {home(OWNER)}/go.new {home(OWNER)}/go", stdin=program(other))
    wait_for(lambda: bool(read(site, node, f"{home(OWNER)}/said")), "the owner's attempts", within_s=60)
    by_owner = json.loads(read(site, node, f"{home(OWNER)}/said"))
    by_hostile = json.loads(run(site, HOSTILE, node, program(other | {"account": f"iso{HOSTILE}"})))
    return Tried(job, node, by_owner, by_hostile)


def program(other: dict[str, Any]) -> str:
    return f"python3 - {shlex.quote(json.dumps(other))} <<'PROGRAM'\n{PROGRAM.read_text()}\nPROGRAM"


@pytest.fixture(autouse=True)
def gpus_given_back(site: PracticeSite) -> Iterator[None]:
    """End what a test has started: in another order its jobs would hold every GPU that the next one waits for."""
    yield
    site.lab.ssh("ctl1", f"scancel --name={PASSING}")
    left = f"squeue --noheader --name={PASSING}"
    wait_for(lambda: not site.lab.ssh("ctl1", left).stdout.strip(), "the jobs of this test to end", within_s=60)


def run(site: PracticeSite, slot: int, node: str, script: str) -> str:
    """Run a job to its end; return what it printed."""
    job = submit(site, slot, node, f"(\n{script}\n) > said.new; mv said.new said.$SLURM_JOB_ID")
    said = f"{home(slot)}/said.{job}"
    wait_for(lambda: bool(read(site, node, said)), f"job {job}", within_s=60)
    return read(site, node, said).strip()


def submit(site: PracticeSite, slot: int, node: str, script: str, *, name: str = PASSING) -> int:
    """Submit on the scheduler's node with the user's token, as the control plane does."""
    words = [
        f"--uid={2100 + slot}", f"--gid={2100 + slot}", f"--account=iso{slot}", "--partition=training",
        "--qos=training", f"--nodelist={node}", "--gpus=1", "--mem=128", "--time=10", f"--chdir={home(slot)}",
        "--output=log.%j", "--export=NIL", "--parsable", f"--job-name={name}",
    ]  # fmt: skip
    line = f"{as_user(slot)} sbatch {' '.join(words)}"
    return int(site.lab.ssh("ctl1", line, stdin=f"#!/bin/bash\n{script}\n").stdout)


def as_user(slot: int) -> str:
    return f"SLURM_JWT=$(cat /run/redoubt-slurm/{user(slot)})"


def state(site: PracticeSite, job: int) -> str:
    return site.lab.ssh("ctl1", f"squeue --noheader --format=%T --jobs={job}", check=False).stdout.strip()


def read(site: PracticeSite, node: str, path: str) -> str:
    return site.lab.ssh(node, f"cat {path} 2>/dev/null || true").stdout


def endpoint_port(site: PracticeSite, node: str) -> int:
    found = site.lab.ssh(node, "ss -tlnH | awk '{print $4}' | grep -oE ':20[0-9]{3}$' | tr -d : | head -1").stdout
    return int(found)


def address_of(site: PracticeSite, node: str) -> str:
    return next(str(known.address) for known in site.lab.nodes() if known.name == node)


def user(slot: int) -> str:
    return f"redoubt-p{slot:02d}"


def home(slot: int) -> str:
    return f"/var/lib/redoubt-projects/p{slot:02d}"


def port(slot: int) -> int:
    return 24000 + 100 * (slot - 1)
