"""What was used of the GPUs: every start once, however often and in whatever order it is told."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.metering import service
from controlplane.domains.metering.loops import UsageLoop
from controlplane.domains.metering.types import UsedTime
from controlplane.domains.scheduler.rules.usage import group
from controlplane.domains.scheduler.types import UsageBy
from controlplane.engines.scheduler import UsedGpus
from controlplane.kit.errors import Unavailable
from tests.support.table_scheduler import TableScheduler

BEGAN = datetime(2026, 11, 27, 12, tzinfo=UTC)


def use(ref="1", *, start_s=0, end_s=None, gpus=1, account="lab", name="", kind="h100", node="gpu1") -> UsedGpus:
    return UsedGpus(
        ref,
        name or f"job_{ref}",
        account,
        "redoubt-p01",
        "training",
        kind,
        gpus,
        node,
        BEGAN + timedelta(seconds=start_s),
        None if end_s is None else BEGAN + timedelta(seconds=end_s),
        "running" if end_s is None else "completed",
    )


async def record(plane, *used):
    async with plane.database.transaction() as tx:
        await service.record_used(tx, SYSTEM, used=used, known_until=tx.now)


async def used_time(plane, *, from_s=0, to_s=3600, accounts=None):
    async with plane.database.transaction() as tx:
        since, until = BEGAN + timedelta(seconds=from_s), BEGAN + timedelta(seconds=to_s)
        return await service.sum_used_time(tx, since=since, until=until, accounts=accounts)


async def test_a_start_counts_once_however_often_it_is_told(plane):
    for _time in range(3):
        await record(plane, use(end_s=100, gpus=2), use(end_s=100, gpus=2))

    [found] = await used_time(plane)

    assert (found.gpu_seconds, found.starts, found.running) == (200, 1, 0)


async def test_an_open_start_counts_up_to_now_and_gets_its_end_later(plane):
    await record(plane, use(gpus=4))
    [before] = await used_time(plane, to_s=60)

    await record(plane, use(end_s=90, gpus=4))
    [after] = await used_time(plane, to_s=3600)

    assert (before.gpu_seconds, before.running) == (240, 1)
    assert (after.gpu_seconds, after.running) == (360, 0)


async def test_each_start_of_a_requeued_run_counts_and_the_time_between_does_not(plane):
    await record(plane, use(end_s=100), use(start_s=160, end_s=200))

    [found] = await used_time(plane)

    assert (found.gpu_seconds, found.starts) == (140, 2)


async def test_only_what_lies_in_the_time_asked_for_counts(plane):
    await record(plane, use("1", end_s=100), use("2", start_s=200, end_s=300), use("3", start_s=50))

    found = await used_time(plane, from_s=90, to_s=250)

    assert {time.name: time.gpu_seconds for time in found} == {"job_1": 10, "job_2": 50, "job_3": 160}


async def test_only_the_accounts_asked_for_count(plane):
    await record(plane, use("1", end_s=10), use("2", end_s=10, account="physics"))

    assert [time.account for time in await used_time(plane, accounts=["physics"])] == ["physics"]
    assert await used_time(plane, accounts=[]) == []


async def test_the_accounting_is_asked_far_back_at_first_and_a_little_later_on(plane):
    accounting = TableScheduler(used=[use(end_s=10)])
    loop = UsageLoop(plane.database, accounting)
    began = plane.clock.now()
    await loop.step()
    plane.clock.move(5)
    await loop.step()
    plane.clock.move(3600)
    await loop.step()

    first, second, third = accounting.asked_since
    assert began - first > timedelta(days=2, hours=23)
    assert timedelta(minutes=9) < began - second < timedelta(minutes=11)
    assert began - third >= timedelta(days=2, hours=22)


async def test_an_end_that_is_told_days_late_is_found_by_the_look_far_back(plane):
    accounting = TableScheduler(used=[use()])
    plane.clock.move((BEGAN - plane.clock.now()).total_seconds() + 60)
    await UsageLoop(plane.database, accounting).step()
    plane.clock.move(9 * 86400)
    accounting.used = [use(end_s=300)]

    await UsageLoop(plane.database, accounting).step()

    [found] = await used_time(plane)
    assert (found.gpu_seconds, found.running) == (300, 0)


async def test_an_accounting_that_is_away_loses_nothing(plane):
    accounting = TableScheduler(used=[use(end_s=10)], away=True)
    plane.clock.move((BEGAN - plane.clock.now()).total_seconds() + 60)
    loop = UsageLoop(plane.database, accounting)
    with pytest.raises(Unavailable):
        await loop.step()
    accounting.away = False

    await loop.step()

    assert [time.gpu_seconds for time in await used_time(plane)] == [10]


times = st.lists(
    st.builds(
        UsedTime,
        st.sampled_from(["lab", "team", "gone"]),
        st.sampled_from(["h100", "NVIDIA H100 80GB HBM3", "a100"]),
        st.sampled_from(["gpu1", "gpu2"]),
        st.sampled_from(["job_1", "job_2"]),
        st.integers(0, 10**6),
        st.integers(1, 3),
        st.integers(0, 1),
    )
)


@given(used=times, by=st.sampled_from(UsageBy))
def test_however_it_is_grouped_nothing_is_lost_or_counted_twice(used, by):
    rows = group(used, by, {"lab": "lab", "team": "lab"})

    assert sum(row.gpu_seconds for row in rows) == sum(time.gpu_seconds for time in used)
    assert sum(row.starts for row in rows) == sum(time.starts for time in used)
    assert len({row.key for row in rows}) == len(rows)


def test_a_team_counts_for_its_project_and_a_card_for_its_type():
    used = [
        UsedTime("team", "NVIDIA H100 80GB HBM3", "gpu1", "job_1", 10, 1, 0),
        UsedTime("lab", "h100", "gpu2", "job_2", 5, 1, 0),
        UsedTime("lab", "h100_1g.10gb", "gpu2", "job_2", 1, 1, 0),  # a slice is no whole card
    ]

    assert [(row.key, row.gpu_seconds) for row in group(used, UsageBy.PROJECT, {"lab": "lab", "team": "lab"})] == [
        ("lab", 16)
    ]
    assert [(row.key, row.gpu_seconds) for row in group(used, UsageBy.TYPE, {})] == [
        ("h100", 15),
        ("h100_1g.10gb", 1),
    ]
