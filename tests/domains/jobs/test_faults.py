"""Whatever goes wrong in whatever order: no GPU in two leases, no lease without a run, no job that is never over."""

import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.engines.port import EngineState, ObservedRun
from controlplane.kit.errors import Unavailable
from tests.support.control_plane import ControlPlane
from tests.support.database import empty
from tests.support.jobs import JobSite

SEQUENCES = int(os.environ.get("REDOUBT_FAULT_SEQUENCES", "20"))
FAULTS = [
    "submit", "submit_array", "submit_red", "token", "converge", "converge", "converge", "killed", "begin", "begin",
    "begin", "requeue", "restarts", "done", "failed", "node_lost", "forget", "away", "back", "stop", "stop_element",
    "register", "ended", "ship", "time", "preempted",
]  # fmt: skip


class Killed(BaseException):
    """What a SIGKILL is to a test: nothing catches it."""


class Fleet:
    """Plays the engine's part: whole GPUs of gpu1, each given once, within the limit of a project."""

    def __init__(self, site: JobSite) -> None:
        self.site, self.engine = site, site.engine

    def runs(self, *states: EngineState) -> list[ObservedRun]:
        return [run for run in self.engine.runs.values() if run.state in states and run.name.startswith("job_")]

    def begin(self) -> None:
        waiting = self.runs(EngineState.WAITING)
        free = sorted(set(range(4)) - {gpu for run in self.runs(EngineState.RUNNING) for gpu in run.gpu_indexes})
        if waiting and free:
            self.engine.begin(waiting[0].name, "gpu1", free[0])

    def running(self) -> str | None:
        found = self.runs(EngineState.RUNNING)
        return found[len(found) // 2].name if found else None


@settings(max_examples=SEQUENCES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from(FAULTS), min_size=8, max_size=40))
@example(faults=["submit", "killed", "begin", "stop", "converge", "converge"])
@example(faults=["submit", "converge", "begin", "converge", "restarts", "register", "requeue", "stop", "converge"])
@example(faults=["submit", "converge", "begin", "converge", "done", "forget", "converge", "time", "converge"])
@example(faults=["submit_array", "converge", "begin", "begin", "converge", "away", "done", "converge", "forget"])
async def test_no_sequence_of_faults_leaks_a_lease_or_a_run(
    plane: ControlPlane, database_url: str, faults: list[str]
) -> None:
    await empty(database_url)
    await plane.seal()
    plane.engine.__init__(queues=True)  # type: ignore[misc]  # made anew in place: the plane holds it
    async with plane.client(await plane.administrator()) as client:
        site = JobSite(plane, client)
        await site.prepare()
        fleet = Fleet(site)
        for fault in faults:
            await _do(site, fleet, fault)
            await _check(site, fleet, settled=fault == "converge" and not plane.engine.away)
        await _heal(site, fleet)
        assert await site.leases() == []
        assert fleet.runs(EngineState.RUNNING, EngineState.WAITING) == []
        names = [order.name for order in plane.engine.orders]
        assert len(names) == len(set(names))
        jobs = (await client.get("/jobs?limit=200")).json()["items"]
        assert {job["state"] for job in jobs} <= {"done", "failed", "stopped"}
        assert all(job["ended_at"] for job in jobs)


async def _do(site: JobSite, fleet: Fleet, fault: str) -> None:
    engine, name = site.engine, fleet.running()
    if fault in OF_A_RUN:
        if name is not None:
            await OF_A_RUN[fault](site, fleet, name)
        return
    match fault:
        case "converge":
            await _converge(site)
        case "killed":
            await _killed_before_it_wrote(site)
        case "begin":
            fleet.begin()
        case "away" | "back":
            engine.away = fault == "away"
        case "time":
            await site.pass_time(61)
        case "forget":
            engine.runs = {key: run for key, run in engine.runs.items() if run.state is not EngineState.ENDED}
        case _:
            await _ask(site, fault)


async def _ask(site: JobSite, fault: str) -> None:
    jobs = [job["id"] for job in (await site.client.get("/jobs")).json()["items"]]
    match fault:
        case "submit" | "submit_red":
            await site.submit(gpus=1, share="red" if fault == "submit_red" else "blue")
        case "submit_array":
            await site.submit(gpus=1, array="0-2%2")
        case "token":
            assert await site.submit(gpus=1, token="same") == await site.submit(gpus=1, token="same")
        case "stop" if jobs:
            assert (await site.client.delete(f"/jobs/{jobs[0]}")).is_success


async def _restart(site: JobSite, fleet: Fleet, name: str) -> None:
    for _ in range(3):
        site.engine.requeue(name)
    fleet.begin()


async def _preempt(site: JobSite, fleet: Fleet, name: str) -> None:
    gpus = site.engine.runs[name].gpu_indexes
    site.engine.requeue(name, "pending, Preempted")
    waiting = [run.name for run in fleet.runs(EngineState.WAITING) if run.name != name]
    if waiting:
        site.engine.begin(waiting[0], "gpu1", *gpus)


async def _requeue(site: JobSite, _fleet: Fleet, name: str) -> None:
    site.engine.requeue(name)


async def _done(site: JobSite, _fleet: Fleet, name: str) -> None:
    site.engine.end(name)


async def _failed(site: JobSite, _fleet: Fleet, name: str) -> None:
    site.engine.end(name, status=1, reason="failed, ended with status 1")


async def _lost(site: JobSite, _fleet: Fleet, name: str) -> None:
    site.engine.end(name, reason="node_fail, NodeDown")


async def _stop_element(site: JobSite, _fleet: Fleet, name: str) -> None:
    job, _, index = name.partition(".")
    await site.client.delete(f"/jobs/{job}/elements/{index}" if index else f"/jobs/{job}")


async def _register(site: JobSite, _fleet: Fleet, name: str) -> None:
    await site.register(name, site.engine.runs[name].restarts)


async def _say_ended(site: JobSite, _fleet: Fleet, name: str) -> None:
    await site.renew(name, site.engine.runs[name].restarts, phase="ended", status=0)


async def _ship(site: JobSite, _fleet: Fleet, name: str) -> None:
    restarts = site.engine.runs[name].restarts
    await site.ship(name, 0, "a", "b", restarts=restarts)
    await site.ship(name, 1, "b", "c", restarts=restarts)


OF_A_RUN = {
    "requeue": _requeue, "restarts": _restart, "preempted": _preempt, "done": _done, "failed": _failed,
    "node_lost": _lost, "stop_element": _stop_element, "register": _register, "ended": _say_ended, "ship": _ship,
}  # fmt: skip


async def _converge(site: JobSite) -> None:
    try:
        await site.loops.converge()
    except Unavailable:
        assert site.engine.away


async def _killed_before_it_wrote(site: JobSite) -> None:
    async def die(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(site.loops, "_mark_submitted", die)
        try:
            await site.loops.start()
        except Killed:
            return


async def _check(site: JobSite, fleet: Fleet, *, settled: bool) -> None:
    """Compare leases with the engine: right after a round they are its runs, whatever happened before.

    But for those that were told to stop after that round had looked, and those that the engine lists no more: it may
    list them late, so their leases live on for a while.
    """
    owners = await site.leases()
    assert len(owners) == len(set(owners))
    if settled:
        stopped = set(site.engine.stopped)
        running = sorted(run.name for run in fleet.runs(EngineState.RUNNING))
        told = [owner for owner in owners if not {owner, owner.partition(".")[0]} & stopped]
        assert [owner for owner in told if owner in site.engine.runs] == running


async def _heal(site: JobSite, fleet: Fleet) -> None:
    """Stop every job on a healthy site and let everything settle."""
    site.engine.away = False
    for job in (await site.client.get("/jobs?state=live&limit=200")).json()["items"]:
        await site.client.delete(f"/jobs/{job['id']}")
    for _ in range(4):
        await site.pass_time(70)
        await site.loops.converge()
