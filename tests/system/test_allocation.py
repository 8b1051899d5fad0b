"""GPUs are shared on a whole practice site: quotas, preemption with a checkpoint, spare nodes, a cordoned GPU."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any  # JSON of our own commands has no narrower type

import pytest
from lab.errors import LabError
from practice.site import MODEL, PracticeSite

from tests.system.steps import wait_for

pytestmark = pytest.mark.system

PROJECT, TYPE, NODE = "training-team", "a100", "gpu2"
GPUS = 4
OVER = ("done", "failed", "stopped")
TRAINING = """
kept="$REDOUBT_CHECKPOINT_DIR/step"
step=$(cat "$kept" 2>/dev/null || echo 0)
last=$((step ? step + 5 : 100000))
echo "began at step $step"
trap 'echo $step > "$kept"; echo "saved step $step"' USR1
while [ $step -lt $last ]; do step=$((step + 1)); sleep 0.2; done
echo "ended at step $step"
"""


@pytest.fixture
def project(site: PracticeSite) -> str:
    """A project that may use every GPU of one type as long as nobody else wants them."""
    if PROJECT not in {share["name"] for share in site.redoubt_json("project", "list")}:
        site.redoubt("project", "create", PROJECT, "--in", "site")
    site.redoubt("quota", "set", PROJECT, TYPE, "--most", GPUS)
    wait_for(lambda: PROJECT in site.lab.ssh("ctl1", "sacctmgr -nP show account format=account").stdout, "its account")
    return PROJECT


def test_what_a_project_may_not_have_is_refused_with_the_reason_and_the_way_forward(
    site: PracticeSite, project: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = len(_jobs(site))
    for gpus, gpu_type, why in ((1, "h100", f"{project} may use no h100"), (8, TYPE, "8 asked on one node")):
        capfd.readouterr()
        with pytest.raises(LabError):
            _run(site, project, gpus, gpu_type, "true")
        told = capfd.readouterr().err
        assert why in told
        assert "next: " in told

    assert len(_jobs(site)) == before
    answer = _explain(site, "--gpus", 1, "--type", "h100", "--project", project)
    assert answer["code"] == "no_quota"
    assert f"redoubt quota set {project} h100" in answer["remedy"]


def test_training_saves_its_work_for_an_endpoint_and_goes_on_when_that_is_gone(
    site: PracticeSite, project: str
) -> None:
    job = _run(site, project, GPUS, TYPE, "sh", "-c", TRAINING, checkpoint="USR1@20")
    wait_for(lambda: "began at step 0" in _log(site, job), "the training to begin")
    foreseen = _explain(site, "--gpus", 2, "--type", TYPE, "--pool", "inference")
    assert [told.split()[0] for told in foreseen["preempts"]] == [job]

    with _endpoint(site, "urgent", gpus=2):
        assert _job(site, job)["state"] in ("queued", "requeued")
        assert "saved step" in _log(site, job)
        holder = {lease["owner"].partition("_")[0] for lease in _leases(site) if lease["node"] == NODE}
        assert holder == {"replica"}

    wait_for(lambda: _job(site, job)["state"] == "done", "the training to end", within_s=120)
    said = _log(site, job)
    saved = said.split("saved step ")[1].split()[0]
    assert f"began at step {saved}" in said
    assert f"ended at step {int(saved) + 5}" in said
    assert not [lease for lease in _leases(site) if lease["owner"].startswith(job)]


def test_a_reservation_of_spare_nodes_takes_another_node_when_one_is_lost(site: PracticeSite) -> None:
    endpoint = site.redoubt_json("endpoint", "list")[0]["name"]
    site.redoubt("endpoint", "scale", endpoint, 0)
    try:
        wait_for(lambda: not _leases(site), "nobody to use a GPU")
        wait_for(lambda: _schedulers_view(site) == {"idle"}, "the scheduler to have both nodes")  # of the test before
        _lose_a_spare_node(site)
    finally:  # whatever went wrong, the tests after this one find a replica
        wait_for(lambda: all(n["state"] == "ready" for n in site.redoubt_json("node", "list") if n["gpus"]), "nodes")
        site.redoubt("endpoint", "scale", endpoint, 1, "--wait", 120)


def _lose_a_spare_node(site: PracticeSite) -> None:
    site.redoubt("reservation", "create", "stand-in", "--kind", "spare", "--nodes", 1, "--reason", "a test")
    try:
        wait_for(lambda: len(_spare(site)) == 1, "the scheduler to choose a node")
        (lost,) = _spare(site)
        site.lab.power_cut(lost)
        try:
            wait_for(lambda: _spare(site) not in ([], [lost]), "another node in its place")
        finally:
            site.lab.start(lost)
    finally:
        site.redoubt("reservation", "delete", "stand-in")
    wait_for(lambda: not _spare(site), "the reservation to end")


def test_nobody_gets_a_gpu_that_is_cordoned_and_its_neighbours_go_on(site: PracticeSite, project: str) -> None:
    bad, *_ = [gpu["uuid"] for gpu in site.redoubt_json("gpu", "list") if gpu["node"] == NODE]
    site.redoubt("gpu", "cordon", bad, "--reason", "it gives wrong answers")
    try:
        wait_for(lambda: _held(site), "the bad GPU to be held")
        refused = _explain(site, "--gpus", GPUS, "--type", TYPE, "--project", project)
        assert not refused["fits"]
        assert "it gives wrong answers" in json.dumps(refused)
        job = _run(site, project, GPUS - 1, TYPE, "sh", "-c", "sleep 5; echo $CUDA_VISIBLE_DEVICES")
        wait_for(lambda: bool(_gpus_of(site, job)), "the job to have its GPUs")
        assert bad not in _gpus_of(site, job)
        wait_for(lambda: _job(site, job)["state"] == "done", "the job to end")
    finally:
        site.redoubt("gpu", "uncordon", bad)
    wait_for(lambda: not _held(site), "the GPU to be free again")


def _run(site: PracticeSite, project: str, gpus: int, gpu_type: str, *command: str, checkpoint: str = "") -> str:
    warned = ("--checkpoint", checkpoint) if checkpoint else ()
    asked = ("--project", project, "--gpus", gpus, "--type", gpu_type, "--time", "20m", *warned)
    return str(json.loads(site.redoubt("job", "run", "--json", *asked, "--", *command))["id"])


@contextmanager
def _endpoint(site: PracticeSite, name: str, *, gpus: int) -> Iterator[None]:
    where = ("--zone", "north", "--gpus", gpus, "--gpu-type", TYPE)
    site.redoubt("endpoint", "create", name, "--model", MODEL, *where, "--wait", 150)
    try:
        yield
    finally:
        site.redoubt("endpoint", "delete", name)


def _job(site: PracticeSite, job: str) -> Any:
    return site.redoubt_json("job", "show", job)


def _jobs(site: PracticeSite) -> Any:
    return site.redoubt_json("job", "list", "--all")


def _log(site: PracticeSite, job: str) -> str:
    return site.redoubt("job", "logs", job)


def _leases(site: PracticeSite) -> list[Any]:
    return [lease for lease in site.redoubt_json("lease", "list") if not lease["ended_at"]]


def _gpus_of(site: PracticeSite, job: str) -> list[str]:
    mine = [lease for lease in _leases(site) if lease["owner"].split(".")[0] == job]
    return [uuid for lease in mine for uuid in site.redoubt_json("lease", "show", lease["id"])["gpu_uuids"]]


def _explain(site: PracticeSite, *ask: object) -> Any:
    return site.redoubt_json("allocation", "explain", *ask)


def _spare(site: PracticeSite) -> list[str]:
    """Return the nodes that Slurm keeps as spare."""
    shown = site.lab.ssh("ctl1", "scontrol --oneliner show reservation").stdout
    kept = [line for line in shown.splitlines() if "SPEC_NODES" in line or "REPLACE_DOWN" in line]
    return [word.removeprefix("Nodes=") for line in kept for word in line.split() if word.startswith("Nodes=")]


def _schedulers_view(site: PracticeSite) -> set[str]:
    return set(site.lab.ssh("ctl1", "sinfo --noheader --Node --format=%T").stdout.split())


def _held(site: PracticeSite) -> bool:
    return "hold_" in site.lab.ssh("ctl1", "squeue --noheader --states=running --format=%j").stdout
