"""What a supervisor is let do, and what anybody who is not the one start of the one run is not."""

import base64
from typing import Any  # JSON of the API has no narrower type

import pytest

from tests.support.jobs import JobSite


@pytest.fixture
async def job(site: JobSite) -> str:
    """Give a job that runs on two GPUs and whose supervisor has not spoken yet."""
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    return job


async def logged(site: JobSite, job: str, cursor: str = "") -> tuple[str, str, bool]:
    """Return what a reader gets from there, where to go on, and whether it was all."""
    log = (await site.client.get(f"/jobs/{job}/log?cursor={cursor}")).json()
    return b"".join(base64.b64decode(p["data"]) for p in log["parts"]).decode(), log["cursor"], log["is_over"]


async def test_a_start_registers_once_and_may_ask_again_with_its_own_token(site: JobSite, job: str):
    assert (await site.register(job)).status_code == 201
    assert (await site.register(job)).status_code == 201
    assert (await site.register(job, token="another".ljust(40, "y"))).status_code == 401


async def test_a_start_that_says_other_restarts_than_the_engine_waits(site: JobSite, job: str):
    assert (await site.register(job, restarts=1)).status_code == 429


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"nonce": "wrong"}, 401),
        ({"run_id": "job_unknown"}, 401),
        ({"node": "gpu2"}, 403),
        ({"token": "short"}, 422),
    ],
)
async def test_who_is_not_the_start_that_the_engine_tells_of_is_not_let_in(
    site: JobSite, job: str, changes: dict[str, Any], status: int
):
    assert (await site.register(job, **changes)).status_code == status


async def test_the_environment_of_an_old_start_opens_nothing_once_another_took_over(site: JobSite, job: str):
    await site.register(job)
    site.engine.requeue(job)
    await site.loops.converge()
    assert (await site.register(job, restarts=1)).status_code == 429
    site.engine.begin(job, "gpu1", 2, 3)
    await site.loops.converge()
    assert (await site.register(job, restarts=0)).status_code == 409
    assert (await site.register(job, restarts=1)).status_code == 201
    assert (await site.renew(job, restarts=0)).json() == {"keep": False, "stop": True}
    assert (await site.renew(job, restarts=1)).json() == {"keep": True, "stop": False}


async def test_a_start_on_fewer_or_other_gpus_is_refused(site: JobSite, job: str):
    assert "2 GPUs were asked for and 1 answer" in (
        await site.register(job, gpu_uuids=["GPU-gpu1-0"])
    ).json()["refusal"]  # fmt: skip


async def test_a_start_on_gpus_that_were_not_given_is_refused(site: JobSite, job: str):
    answer = await site.register(job, gpu_uuids=["GPU-gpu1-0", "GPU-gpu1-3"])
    assert "shows other GPUs" in answer.json()["refusal"]


async def test_a_start_on_a_revoked_node_is_turned_away(site: JobSite, job: str):
    await site.client.post("/nodes/gpu1/revocations", json={"reason": "stolen disk"})
    assert (await site.register(job)).status_code == 403


async def test_a_run_that_is_over_lets_nobody_in(site: JobSite, job: str):
    site.engine.end(job)
    await site.loops.converge()
    assert (await site.register(job)).status_code == 401


async def test_the_end_that_a_supervisor_tells_of_outlives_an_engine_that_forgets(site: JobSite, job: str):
    await site.register(job)
    await site.renew(job, phase="ended", status=0)
    del site.engine.runs[job]
    for _ in range(2):
        await site.loops.converge()
        await site.pass_time(70)
    await site.loops.converge()
    assert await site.states(job) == ["done"]


async def test_output_is_read_in_order_and_on_from_where_one_was(site: JobSite, job: str):
    await site.register(job)
    await site.ship(job, 0, "one ", "two ")
    text, cursor, is_over = await logged(site, job)
    assert (text, is_over) == ("one two ", False)
    await site.ship(job, 2, "three", last=True)
    site.engine.end(job)
    await site.loops.converge()
    text, cursor, _over = await logged(site, job, cursor)
    assert text == "three"
    assert await logged(site, job, cursor) == ("", cursor, True)


async def test_output_that_comes_twice_or_with_a_gap_is_kept_once_and_whole(site: JobSite, job: str):
    await site.register(job)
    assert (await site.ship(job, 0, "a", "b")).json() == {"next_sequence": 2, "is_full": False}
    assert (await site.ship(job, 0, "X", "Y", "c")).json()["next_sequence"] == 3
    assert (await site.ship(job, 7, "far")).json()["next_sequence"] == 3
    assert (await site.ship(job, 1, "b")).json()["next_sequence"] == 3
    assert (await logged(site, job))[0] == "abc"


async def test_another_jobs_token_ships_nothing(site: JobSite, job: str):
    other = await site.submit(share="red")
    await site.loops.converge()
    site.engine.begin(other, "gpu1", 2, 3)
    await site.loops.converge()
    await site.register(job)
    await site.register(other)
    stolen = site.tokens[other, 0]
    assert (await site.ship(job, 0, "forged", token=stolen)).status_code == 401
    assert (await site.ship(job, 0, "forged", token="")).status_code == 200
    assert (await logged(site, other))[0] == ""


async def test_a_start_that_is_over_still_ships_what_its_node_kept(site: JobSite, job: str):
    await site.register(job)
    site.engine.requeue(job)
    site.engine.begin(job, "gpu1", 2, 3)
    await site.loops.converge()
    await site.register(job, restarts=1)
    await site.ship(job, 0, "second", restarts=1)
    assert (await site.ship(job, 0, "first ", restarts=0)).status_code == 200
    assert (await logged(site, job))[0] == "first second"


async def test_a_run_keeps_no_more_output_than_its_bound(site: JobSite, job: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("controlplane.domains.jobs.service.starts.KEPT_BYTES", 3000)
    await site.register(job)
    assert (await site.ship(job, 0, "x" * 1500)).json()["is_full"] is False
    assert (await site.ship(job, 1, "y" * 1500)).json()["is_full"] is True
    assert (await site.ship(job, 2, "z" * 1500)).json()["is_full"] is True
    text = (await logged(site, job))[0]
    assert text.startswith("x" * 1500)
    assert text.count("is full") == 1
    assert "y" not in text.partition("[")[0]


async def test_a_part_that_is_too_large_is_refused(site: JobSite, job: str):
    await site.register(job)
    assert (await site.ship(job, 0, "x" * (32 * 1024 + 1))).status_code == 422


async def test_a_cordoned_gpu_is_refused_before_it_is_leased(site: JobSite):
    answer = await site.client.put("/gpus/GPU-gpu1-0/cordon", json={"reason": "ECC errors"})
    assert answer.is_success, answer.text
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    assert (await site.register(job)).json()["refusal"] == "GPU GPU-gpu1-0 is cordoned"
    assert await site.leases() == []
    site.engine.requeue(job)  # slurm.conf queues it again for its status
    site.engine.begin(job, "gpu1", 1, 2)
    await site.loops.converge()
    assert (await site.register(job, restarts=1)).json() == {"refusal": ""}
