"""What people may ask of jobs, and what is refused before anything is written."""

from collections.abc import AsyncIterator
from typing import Any  # JSON of the API has no narrower type

import httpx
import pytest

from controlplane.domains.audit.types import Role
from controlplane.domains.shares.tables import Share
from tests.support.jobs import TRAIN, JobSite


@pytest.fixture
async def tenant(site: JobSite) -> AsyncIterator[httpx.AsyncClient]:
    """Give a tenant's user of project blue."""
    async with site.plane.client(await site.plane.person(Role.TENANT_USER, project="blue")) as client:
        yield client


async def count(site: JobSite) -> int:
    return len((await site.client.get("/jobs")).json()["items"])


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"gpus": 5}, 409, None),
        ({"gpu_type": "a100"}, 409, "no_quota"),
        ({"gpu_type": "b300"}, 409, None),
        ({"share": "green"}, 404, "unknown_share"),
        ({"share": "site"}, 409, "no_slot"),
        ({"share": "redoubt"}, 409, "no_slot"),
        ({"time_limit_s": 8 * 86400}, 409, "too_long"),
        ({"image": "torch"}, 422, "no_images"),
        ({"array": "3-1"}, 422, None),
        ({"array": "x"}, 422, None),
        ({"command": []}, 422, None),
        ({"command": ["a\0b"]}, 422, None),
        ({"command": ["x" * 30_000] * 3}, 422, None),
        ({"environment": {"SLURM_JOB_ID": "1"}}, 422, None),
        ({"environment": {"REDOUBT_RUN_ID": "1"}}, 422, None),
        ({"environment": {"A B": "1"}}, 422, None),
        ({"checkpoint": {"signal": "KILL"}}, 422, None),
        ({"gpus": 0}, 422, None),
        ({"gpus": 0, "gpu_type": "", "pool": "inference"}, 409, "no_gpus"),
        ({"command": ["\u0001" * 15_000]}, 422, None),
        ({"pool": "spare"}, 422, None),
        ({"name": "../x"}, 422, None),
    ],
)
async def test_an_impossible_ask_is_refused_and_nothing_is_written(
    site: JobSite, changes: dict[str, object], status: int, code: str | None
):
    answer = await site.client.post("/jobs", json={**TRAIN, **changes})
    assert answer.status_code == status, answer.text
    assert code in (None, answer.json()["code"])
    assert answer.json()["remedy"]
    assert await count(site) == 0


async def test_a_refusal_for_a_quota_says_why(site: JobSite):
    answer = (await site.client.post("/jobs", json={**TRAIN, "gpu_type": "a100"})).json()
    assert answer["reasons"] or "a100" in answer["detail"]


async def test_a_dry_run_says_what_it_would_be_and_writes_nothing(site: JobSite):
    plan = (await site.client.post("/job-plans", json={**TRAIN, "array": "0-3"})).json()
    assert (plan["account"], plan["partition"], plan["user"], plan["runs"]) == ("blue", "training", "redoubt-p01", 4)
    assert [word in " ".join(plan["notes"]) for word in ("guaranteed", "checkpoint")] == [True, True]
    assert (await site.client.post("/job-plans", json={**TRAIN, "gpu_type": "a100"})).status_code == 409
    assert await count(site) == 0


async def test_the_same_token_submits_once_and_another_ask_with_it_is_refused(site: JobSite):
    first = await site.client.post("/jobs", json={**TRAIN, "token": "nightly-1"})
    again = await site.client.post("/jobs", json={**TRAIN, "token": "nightly-1"})
    other = await site.client.post("/jobs", json={**TRAIN, "token": "nightly-1", "gpus": 1})
    assert (first.json()["id"], again.status_code, other.status_code) == (again.json()["id"], 201, 409)
    assert await count(site) == 1


async def test_the_same_idempotency_key_submits_once(site: JobSite):
    headers = {"Idempotency-Key": "one"}
    ids = {(await site.client.post("/jobs", json=TRAIN, headers=headers)).json()["id"] for _ in range(3)}
    assert len(ids) == 1
    assert await count(site) == 1


async def test_work_without_gpus_runs_too(site: JobSite):
    job = await site.submit(gpus=0, gpu_type="")
    await site.loops.converge()
    site.engine.begin(job, "gpu2")
    await site.loops.converge()
    assert (await site.register(job)).json() == {"refusal": ""}
    assert await site.leases() == []


async def test_waiting_work_counts_against_the_guarantee_too(site: JobSite):
    jobs = [await site.get(await site.submit(gpus=1)) for _ in range(3)]
    array = await site.get(await site.submit(share="red", gpus=1, array="0-9%3"))
    small = await site.get(await site.submit(share="red", gpus=1, array="0-9%2"))
    assert [job["over_quota"] for job in jobs] == [False, False, True]
    assert (array["over_quota"], small["over_quota"]) == (True, False)
    await site.loops.start()
    classes = {order.name: order.qos for order in site.engine.orders}
    found = [classes[job["id"]] for job in (*jobs, array, small)]
    assert found == ["training", "training", "training-over", "training-over", "training"]


async def test_a_guarantee_is_free_again_once_its_work_is_over(site: JobSite):
    first = await site.submit()
    await site.client.delete(f"/jobs/{first}")
    await site.loops.converge()
    assert (await site.get(await site.submit()))["over_quota"] is False


async def test_work_without_gpus_makes_room_for_guaranteed_work(site: JobSite):
    job = await site.get(await site.submit(gpus=0, gpu_type="", pool="interactive"))
    assert job["over_quota"] is True
    await site.loops.start()
    assert site.engine.orders[0].qos == "interactive-over"


async def test_an_ask_for_any_type_gets_one_that_its_share_may_use(site: JobSite):
    job = await site.get(await site.submit(gpu_type=""))
    assert job["gpu_type"] == "h100"
    refused = await site.client.post("/jobs", json={**TRAIN, "gpu_type": "", "gpus": 5})
    assert (refused.status_code, bool(refused.json()["reasons"])) == (409, True)


async def test_training_is_queued_again_and_other_work_is_not_unless_it_says_so(site: JobSite):
    asked: list[dict[str, Any]] = [
        {"pool": "training"},
        {"pool": "interactive"},
        {"pool": "interactive", "requeues": True},
    ]
    jobs = [await site.get(await site.submit(**one)) for one in asked]
    assert [job["requeues"] for job in jobs] == [True, False, True]


async def test_a_tenant_runs_reads_and_stops_its_own_jobs(site: JobSite, tenant: httpx.AsyncClient):
    made = await tenant.post("/jobs", json=TRAIN)
    job = made.json()["id"]
    assert made.status_code == 201
    assert [row["id"] for row in (await tenant.get("/jobs")).json()["items"]] == [job]
    assert (await tenant.get(f"/jobs/{job}/explanation")).json()["details"]
    assert (await tenant.get(f"/jobs/{job}/log")).json()["parts"] == []
    assert (await tenant.delete(f"/jobs/{job}")).json()["state"] == "stopping"


async def test_a_tenant_neither_sees_nor_touches_anothers_jobs(site: JobSite, tenant: httpx.AsyncClient):
    job = await site.submit(share="red")
    assert (await tenant.post("/jobs", json={**TRAIN, "share": "red"})).status_code == 404
    assert (await tenant.get("/jobs?project=red")).json()["items"] == []
    for ask in (
        tenant.get(f"/jobs/{job}"),
        tenant.get(f"/jobs/{job}/log"),
        tenant.get(f"/jobs/{job}/explanation"),
        tenant.delete(f"/jobs/{job}"),
        tenant.delete(f"/jobs/{job}/elements/0"),
    ):
        assert (await ask).status_code == 404
    assert await site.states(job) == ["queued"]


async def test_a_team_runs_as_its_project(site: JobSite, tenant: httpx.AsyncClient):
    async with site.plane.database.transaction() as tx:
        tx.session.add(Share(name="vision", kind="team", parent="blue", weight=1, created_at=tx.now))
    made = await tenant.post("/jobs", json={**TRAIN, "share": "vision"})
    assert (made.status_code, made.json()["project"]) == (201, "blue")
    await site.loops.start()
    [order] = site.engine.orders
    assert (order.account, order.user, order.folder) == ("vision", "redoubt-p01", "/var/lib/redoubt-projects/p01")


async def test_an_auditor_sees_jobs_and_not_what_they_write(site: JobSite):
    job = await site.submit()
    async with site.plane.client(await site.plane.person(Role.AUDITOR)) as auditor:
        assert (await auditor.get(f"/jobs/{job}")).status_code == 200
        assert (await auditor.get(f"/jobs/{job}/log")).status_code == 403
        assert (await auditor.post("/jobs", json=TRAIN)).status_code == 403
        assert (await auditor.delete(f"/jobs/{job}")).status_code == 403


async def test_values_of_the_environment_are_shown_to_nobody(site: JobSite):
    job = await site.submit(environment={"API_TOKEN": "hunter2"})
    found = await site.get(job)
    assert found["variables"] == ["API_TOKEN"]
    assert "hunter2" not in str(found)
    events = (await site.client.get("/audit-events")).text
    assert "hunter2" not in events


async def test_jobs_are_listed_the_newest_first_page_by_page(site: JobSite):
    made = [await site.submit(gpus=1) for _ in range(3)]
    first = (await site.client.get("/jobs?limit=2")).json()
    rest = (await site.client.get(f"/jobs?limit=2&cursor={first['cursor']}")).json()
    assert [row["id"] for row in (*first["items"], *rest["items"])] == made[::-1]


async def test_an_array_must_say_whose_output_is_asked_for(site: JobSite):
    job = await site.submit(array="0-1", gpus=1)
    assert (await site.client.get(f"/jobs/{job}/log")).status_code == 422
    assert (await site.client.get(f"/jobs/{job}/log?index=1")).status_code == 200
    assert (await site.client.get(f"/jobs/{job}/log?index=7")).status_code == 404


async def test_a_project_has_a_bounded_number_of_runs(site: JobSite, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controlplane.domains.jobs.service.asks.MOST_LIVE_RUNS", 5)
    await site.submit(array="0-3", gpus=1)
    answer = await site.client.post("/jobs", json={**TRAIN, "array": "0-1", "gpus": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_runs")
    assert (await site.client.post("/jobs", json={**TRAIN, "share": "red"})).status_code == 201


async def test_a_stop_of_what_is_over_changes_nothing(site: JobSite):
    job = await site.submit()
    await site.client.delete(f"/jobs/{job}")
    await site.loops.converge()
    assert (await site.client.delete(f"/jobs/{job}")).json()["state"] == "stopped"
