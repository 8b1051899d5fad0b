from pathlib import Path

from controlplane.gateway.routing.runs import SharedRuns, run_key
from controlplane.gateway.shared_table import SharedTable
from tests.gateway.stage import Stage

RUN = {"X-Redoubt-Run": "run-1"}


def of_revision(replica, revision: str):
    return replica.spec.model_copy(update={"revision_id": revision})


async def test_a_run_stays_on_the_revision_that_it_began_on(stage: Stage):
    old, new = await stage.replica(name="old"), await stage.replica(name="new")
    gateway = await stage.gateway()
    gateway.adopt(of_revision(old, "r1"))
    await gateway.chat(headers=RUN)
    gateway.adopt(of_revision(old, "r1"), of_revision(new, "r2"))

    for _ in range(20):
        assert (await gateway.chat(headers=RUN)).status_code == 200

    assert len(old.requests) == 21


async def test_a_run_whose_revision_is_gone_is_told_so_and_another_run_begins(stage: Stage):
    old, new = await stage.replica(name="old"), await stage.replica(name="new")
    gateway = await stage.gateway()
    gateway.adopt(of_revision(old, "r1"))
    await gateway.chat(headers=RUN)
    gateway.adopt(of_revision(new, "r2"))

    refused = await gateway.chat(headers=RUN)
    other = await gateway.chat(headers={"X-Redoubt-Run": "run-2"})

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "revision_gone"
    assert "X-Redoubt-Run" in refused.json()["error"]["message"]
    assert other.status_code == 200
    assert len(new.requests) == 1


async def test_a_request_without_a_run_goes_to_any_revision(stage: Stage):
    old, new = await stage.replica(name="old"), await stage.replica(name="new")
    gateway = await stage.gateway()
    gateway.adopt(of_revision(old, "r1"), of_revision(new, "r2"))

    for _ in range(40):
        await gateway.chat()

    assert old.requests
    assert new.requests


def test_workers_of_a_node_agree_on_a_run_and_it_ends_when_it_is_not_used(tmp_path: Path):
    one, other = (SharedRuns(SharedTable(tmp_path / "runs", buckets=16)) for _ in range(2))

    assert one.begin(5, 111, now_s=1000.0) == 111
    assert other.begin(5, 222, now_s=1000.0) == 111
    assert other.find(5, now_s=5 * 3600.0) == 111
    assert one.find(5, now_s=10 * 3600.0) == 111
    assert one.find(5, now_s=17 * 3600.0) is None


def test_a_project_that_invents_runs_ends_none_of_another_project(tmp_path: Path):
    runs = SharedRuns(SharedTable(tmp_path / "runs", buckets=16))
    quiet = run_key("blue", "run-1", "endpoint_chat")
    runs.begin(quiet, 111, now_s=1000.0)

    for number in range(2000):
        runs.begin(run_key("red", f"run-{number}", "endpoint_chat"), 222, now_s=1001.0)

    assert runs.find(quiet, now_s=1002.0) == 111
