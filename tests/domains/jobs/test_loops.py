"""Jobs from their submission to their end, over a real database, with an engine in a table."""

import pytest
from sqlalchemy import update

from controlplane.domains.allocation.tables import Lease
from controlplane.domains.shares.tables import ShareQuota
from controlplane.kit.errors import Refused, Unavailable
from tests.support.jobs import JobSite


async def test_a_job_waits_runs_and_is_done(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    assert (await site.get(job))["reason"] == "no node has what it asks for free just now"
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    assert (await site.register(job)).json() == {"refusal": ""}
    found = await site.get(job)
    assert (found["state"], found["node"], found["elements"][0]["gpus"]) == (
        "running", "gpu1", ["GPU-gpu1-0", "GPU-gpu1-1"],
    )  # fmt: skip
    assert await site.leases() == [job]
    site.engine.end(job)
    await site.loops.converge()
    assert (await site.get(job))["state"] == "done"
    assert await site.leases() == []


async def test_an_order_says_all_that_was_asked(site: JobSite):
    job = await site.submit(
        array="0-3%1", cpus=8, memory_mb=1024, time_limit_s=7200, checkpoint={"signal": "USR1", "before_s": 90},
        priority=80,
    )  # fmt: skip
    await site.loops.start()
    [order] = site.engine.orders
    assert (order.name, order.gpus, order.gpu_type, order.array, order.nice) == (job, 2, "h100", "0-3%1", 200)
    assert (order.user, order.account, order.partition, order.qos) == ("redoubt-p01", "blue", "training", "training")
    assert (order.folder, order.cpus, order.memory_mb) == ("/var/lib/redoubt-projects/p01", 8, 1024)
    assert (order.warning.signal, order.warning.before_s, order.requeues) == ("USR1", 90, True)
    assert "gpu2" in order.avoid_nodes
    assert "python train.py" not in str(order.argv)


async def test_a_job_is_handed_over_once_however_often_we_are_killed(site: JobSite, monkeypatch: pytest.MonkeyPatch):
    job = await site.submit()

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(site.loops, "_mark_submitted", killed)
        with pytest.raises(KeyboardInterrupt):
            await site.loops.start()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    await site.loops.converge()
    assert len(site.engine.orders) == 1
    assert await site.states(job) == ["running"]
    assert await site.leases() == [job]


async def test_a_job_whose_start_was_seen_is_never_handed_over_again(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    site.engine.runs.clear()  # an engine that forgot everything
    for _ in range(3):
        await site.pass_time(40)
        await site.loops.converge()
    assert len(site.engine.orders) == 1
    assert await site.states(job) == ["failed"]
    assert await site.leases() == []


async def test_a_preempted_job_waits_and_starts_again_with_a_lease_of_its_own(site: JobSite):
    job = await site.submit(checkpoint={"signal": "USR1", "before_s": 60})
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    await site.register(job)
    await site.renew(job, phase="checkpointing")
    assert await site.states(job) == ["checkpointing"]
    site.engine.requeue(job)
    await site.loops.converge()
    assert await site.states(job) == ["requeued"]
    assert await site.leases() == []
    site.engine.begin(job, "gpu1", 2, 3)
    await site.loops.converge()
    found = (await site.get(job))["elements"][0]
    assert (found["state"], found["restarts"], found["gpus"]) == ("running", 1, ["GPU-gpu1-2", "GPU-gpu1-3"])
    ended = [lease for lease in (await site.client.get("/leases")).json()["items"] if lease["ended_at"]]
    assert len(ended) == 1


async def test_several_restarts_while_we_were_away_leave_one_lease(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    for _ in range(3):
        site.engine.requeue(job)
        site.engine.begin(job, "gpu1", 1, 2)
    await site.loops.converge()
    found = (await site.get(job))["elements"][0]
    assert (found["state"], found["restarts"], found["gpus"]) == ("running", 3, ["GPU-gpu1-1", "GPU-gpu1-2"])
    assert await site.leases() == [job]


async def test_an_engine_that_is_away_changes_nothing(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    other = await site.submit(gpus=1)
    site.engine.away = True
    with pytest.raises(Unavailable):
        await site.loops.converge()
    assert (await site.states(job), await site.states(other)) == (["running"], ["queued"])
    assert await site.leases() == [job]


async def test_a_job_that_the_engine_refuses_fails_with_its_reasons(site: JobSite, monkeypatch: pytest.MonkeyPatch):
    async def refuse(_order: object) -> None:
        raise Refused("no partition is that large", remedy="ask for less", reasons=("gpu1: 4 GPUs",))

    monkeypatch.setattr(site.engine, "start", refuse)
    job = await site.submit()
    await site.loops.converge()
    found = await site.get(job)
    assert (found["state"], found["reason"]) == ("failed", "no partition is that large; gpu1: 4 GPUs")
    assert found["remedy"] == "ask for less"


async def test_a_stop_before_the_start_ends_it_without_one(site: JobSite):
    job = await site.submit()
    await site.client.delete(f"/jobs/{job}")
    await site.loops.converge()
    assert await site.states(job) == ["stopped"]
    assert site.engine.orders == []


async def test_a_running_job_stops_with_grace_for_its_checkpoint(site: JobSite):
    job = await site.submit(checkpoint={"signal": "USR1", "before_s": 60})
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    await site.register(job)
    assert (await site.client.delete(f"/jobs/{job}")).json()["state"] == "stopping"
    assert (await site.renew(job)).json() == {"keep": True, "stop": True}
    await site.loops.converge()
    await site.loops.converge()
    assert site.engine.stopped == [job]
    assert await site.states(job) == ["stopped"]
    assert await site.leases() == []


async def test_a_stop_while_it_waits_for_its_next_start_ends_it(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    site.engine.requeue(job)
    await site.client.delete(f"/jobs/{job}")
    await site.loops.converge()
    del site.engine.runs[job]  # Slurm keeps nothing of what is cancelled while it waits
    await site.loops.converge()
    await site.pass_time(15)
    await site.loops.converge()
    assert await site.states(job) == ["stopped"]
    assert await site.leases() == []


async def test_elements_of_an_array_are_runs_of_their_own(site: JobSite):
    job = await site.submit(array="0-2", gpus=1)
    await site.loops.converge()
    for index in range(3):
        site.engine.begin(f"{job}.{index}", "gpu1", index)
    await site.loops.converge()
    assert await site.leases() == [f"{job}.0", f"{job}.1", f"{job}.2"]
    site.engine.end(f"{job}.0")
    site.engine.end(f"{job}.1", status=3, reason="failed, ended with status 3")
    assert (await site.client.delete(f"/jobs/{job}/elements/2")).status_code == 200
    for _ in range(2):
        await site.loops.converge()
    assert await site.states(job) == ["done", "failed", "stopped"]
    assert (await site.get(job))["state"] == "failed"
    assert site.engine.stopped == [f"{job}.2"]


async def test_a_gpu_that_is_still_in_a_lease_is_waited_for(site: JobSite):
    first, second = await site.submit(), await site.submit()
    await site.loops.converge()
    site.engine.begin(first, "gpu1", 0, 1)
    await site.loops.converge()
    site.engine.end(first)
    site.engine.begin(second, "gpu1", 0, 1)
    await site.loops.converge()  # both in one round: what ends goes first
    assert (await site.states(first), await site.states(second)) == (["done"], ["running"])
    assert await site.leases() == [second]


async def test_a_node_whose_agent_has_not_told_of_its_gpus_leaves_the_run_without_a_start(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 9)
    await site.loops.converge()
    assert "has not told of the 2 GPUs" in (await site.get(job))["reason"]
    assert (await site.register(job)).status_code == 429
    assert await site.leases() == []


async def test_a_start_whose_supervisor_is_not_heard_says_so_until_it_is(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    await site.pass_time(90)
    await site.loops.converge()
    assert "has not spoken yet" in (await site.get(job))["reason"]
    await site.register(job)
    assert (await site.get(job))["reason"] == ""


async def test_shares_hand_over_in_turns_and_priority_counts_within_one(site: JobSite):
    flood = [await site.submit(gpus=1) for _ in range(3)]
    urgent = await site.submit(gpus=1, priority=90)
    other = await site.submit(gpus=1, share="red")
    await site.loops.start()
    assert [order.name for order in site.engine.orders] == [urgent, other, *flood]


async def test_a_start_beyond_a_limit_is_refused_and_one_that_cannot_settle_holds_up_no_other(site: JobSite):
    first, second = await site.submit(), await site.submit(gpus=1)
    await site.loops.start()
    async with site.plane.database.transaction() as tx:
        quota = await tx.session.get_one(ShareQuota, ("blue", "h100"))
        quota.guaranteed = quota.most = 1
    site.engine.begin(first, "gpu1", 0, 1)
    site.engine.begin(second, "gpu1", 2)
    await site.loops.settle()
    assert await site.leases() == [second]
    assert "may use no more GPUs" in (await site.register(first)).json()["refusal"]
    assert (await site.register(second)).json()["refusal"] == ""


async def test_a_gpu_in_anothers_lease_is_waited_for_and_a_tenant_is_not_told_whose_it_is(site: JobSite):
    red = await site.submit(share="red")
    await site.loops.converge()
    site.engine.begin(red, "gpu1", 0, 1)
    await site.loops.converge()
    async with site.plane.database.transaction() as tx:
        await tx.session.execute(update(Lease).values(preemptible=False))
    blue = await site.submit()
    await site.loops.converge()
    site.engine.begin(blue, "gpu1", 1, 2)
    await site.loops.converge()
    reason = (await site.get(blue))["reason"]
    assert "in a lease yet" in reason
    assert red not in reason
    assert await site.leases() == [red]
    site.engine.end(red)
    await site.loops.converge()
    assert await site.leases() == [blue]


async def test_an_array_is_stopped_by_its_name_once(site: JobSite):
    job = await site.submit(array="0-2", gpus=1)
    await site.loops.converge()
    await site.client.delete(f"/jobs/{job}")
    for _ in range(2):
        await site.loops.converge()
    assert site.engine.stopped == [job]
    assert await site.states(job) == ["stopped"] * 3


async def test_a_project_keeps_a_bounded_amount_of_output_and_its_oldest_goes_first(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("controlplane.domains.jobs.loops.converging.PROJECT_OUTPUT_BYTES", 5000)
    jobs = []
    for _ in range(3):
        job = await site.submit()
        await site.loops.converge()
        site.engine.begin(job, "gpu1", 0, 1)
        await site.loops.converge()
        await site.register(job)
        await site.ship(job, 0, "x" * 2000, last=True)
        site.engine.end(job)
        await site.loops.converge()
        jobs.append(job)
    await site.loops.sweep()
    kept = [(await site.client.get(f"/jobs/{job}/log")).status_code for job in jobs]
    assert kept == [404, 200, 200]


async def test_a_run_that_no_job_needs_is_stopped_and_a_strangers_is_not(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    run = site.engine.runs[job]
    site.engine.runs |= {"job_gone": run, "replica_x": run, "somebodys": run}
    await site.loops.converge()
    assert site.engine.stopped == ["job_gone"]


async def test_a_quota_that_was_taken_away_fails_what_was_not_handed_over(site: JobSite):
    job = await site.submit()
    site.engine.away = True
    with pytest.raises(Unavailable):
        await site.loops.converge()
    async with site.plane.database.transaction() as tx:
        quota = await tx.session.get_one(ShareQuota, ("blue", "h100"))
        quota.guaranteed = quota.most = 1
    site.engine.away = False
    await site.loops.converge()
    found = await site.get(job)
    assert found["state"] == "failed"
    assert found["remedy"]


async def test_old_output_is_deleted_and_the_job_stays(site: JobSite):
    job = await site.submit()
    await site.loops.converge()
    site.engine.begin(job, "gpu1", 0, 1)
    await site.loops.converge()
    await site.register(job)
    await site.ship(job, 0, "hello", last=True)
    site.engine.end(job)
    await site.loops.converge()
    await site.loops.sweep()
    assert (await site.client.get(f"/jobs/{job}/log")).status_code == 200
    await site.pass_time(31 * 86400)
    await site.loops.sweep()
    assert (await site.client.get(f"/jobs/{job}/log")).status_code == 404
    assert (await site.get(job))["state"] == "done"
