"""What requests used: each line is one row and counts once in its hour and its day."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from controlplane.contracts.spool import FIRST_PREV, Outcome
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.metering import rules, service
from controlplane.domains.metering.tables import InferenceRequest, InferenceSum
from controlplane.domains.metering.types import Reach, Requests, UsageOf
from controlplane.domains.scheduler.rules.usage import cursor_after, read_after
from controlplane.gateway.records import Opened, Result
from controlplane.gateway.records import Outcome as Line
from tests.domains.metering.test_spools import AT_US, BOOT, lines, ship
from tests.support.control_plane import ControlPlane

BEGAN = datetime.fromtimestamp(AT_US / 1e6, UTC).replace(minute=0, second=0, microsecond=0)
HOUR_US = 3_600_000_000


def outcome(request: str, *, at_us: int = AT_US, project="lab", key="key_a", result="answered", **told: Any) -> Line:
    facts: dict[str, Any] = {
        "workflow": "billing", "agent": "reader", "model": "tiny", "zone": "north", "tokens_cached": 4, "tokens_in": 7,
        "tokens_out": 3,
    }  # fmt: skip
    return Line(
        at_us=at_us, bytes_out=20, code="", duration_us=900, endpoint="chat", key=key, project=project,
        replica="replica_a", request=request, result=result, status=200,
        **(facts | told),
    )  # fmt: skip


async def used(plane: ControlPlane, of: UsageOf, *, hours: int = 48, **asked: Any) -> dict[str, Requests]:
    async with plane.database.transaction() as tx:
        until = BEGAN + timedelta(hours=hours)
        facts: dict[str, Any] = {"since": BEGAN, "until": until, "of": of, "shares": None}
        _, ranked = await service.rank_requests(tx, **(facts | asked))
        return dict(ranked.rows)


async def test_a_request_is_one_row_with_all_that_was_told_and_the_same_line_again_is_none(plane: ControlPlane):
    spool = lines(Opened(at_us=AT_US, node="gw1"), outcome("req_a", run="r1", step="s1", finish="stop", ttft_us=5))
    for first in (0, 0, 1):
        await ship(plane, first, spool[first:])

    async with plane.database.transaction() as tx:
        (row,) = (await tx.session.scalars(select(InferenceRequest))).all()
    assert (row.boot, row.line, row.request, row.share) == (BOOT, 1, "req_a", "lab")
    assert (row.workflow, row.agent, row.run, row.step, row.finish) == ("billing", "reader", "r1", "s1", "stop")
    assert (row.tokens_in, row.tokens_out, row.tokens_cached, row.ttft_us) == (7, 3, 4, 5)
    assert (await used(plane, UsageOf.SHARE))["lab"].calls == 1


async def test_rows_of_requests_never_change(plane: ControlPlane):
    await ship(plane, 0, lines(Opened(at_us=AT_US, node="gw1"), outcome("req_a")))

    with pytest.raises(DBAPIError, match="never change"):
        async with plane.database.transaction() as tx:
            await tx.session.execute(text("update inference_requests set tokens_in = 0"))


@pytest.mark.parametrize(
    ("of", "keys"),
    [
        (UsageOf.SHARE, {"lab": 20, "other": 5}),
        (UsageOf.WORKFLOW, {"billing": 15, "": 10}),
        (UsageOf.AGENT, {"reader": 25}),
        (UsageOf.MODEL, {"tiny": 15, "large": 10}),
        (UsageOf.KEY, {"key_a": 25}),
        (UsageOf.HOUR, {f"{BEGAN:%Y-%m-%dT%H:00Z}": 15, f"{BEGAN + timedelta(hours=25):%Y-%m-%dT%H:00Z}": 10}),
        (UsageOf.DAY, {f"{BEGAN:%Y-%m-%d}": 15, f"{BEGAN + timedelta(hours=25):%Y-%m-%d}": 10}),
    ],
)
async def test_tokens_are_added_up_by_what_was_asked_for(plane: ControlPlane, of: UsageOf, keys: dict[str, int]):
    later = outcome("req_c", at_us=AT_US + 25 * HOUR_US, model="large", workflow="", tokens_in=10)
    spool = lines(
        Opened(at_us=AT_US, node="gw1"), outcome("req_a", tokens_in=10), outcome("req_b", tokens_in=5, project="other"),
        later,
    )  # fmt: skip
    await ship(plane, 0, spool[:2])
    await ship(plane, 2, spool[2:])

    assert {key: sums.tokens_in for key, sums in (await used(plane, of)).items()} == keys


@pytest.mark.parametrize("of", [UsageOf.RUN, UsageOf.KEY, UsageOf.HOUR])
async def test_pages_tell_each_row_once_and_how_many_follow(plane: ControlPlane, of: UsageOf):
    told = [
        outcome(f"req_{n}", run=f"run-{n}", key=f"key_{n}", at_us=AT_US + n * HOUR_US, tokens_in=(n * 7) % 4)
        for n in range(5)
    ]
    await ship(plane, 0, lines(Opened(at_us=AT_US, node="gw1"), *told))
    whole = list((await used(plane, of)).items())

    paged: list[tuple[str, Requests]] = []
    follow: list[int] = []
    after = None
    while not follow or follow[-1]:
        async with plane.database.transaction() as tx:
            until = BEGAN + timedelta(hours=48)
            asked: dict[str, Any] = {"since": BEGAN, "until": until, "of": of, "shares": None}
            _, page = await service.rank_requests(tx, **asked, limit=2, after=after)
        paged += page.rows
        follow.append(page.more)
        after = read_after(cursor_after(page))

    assert paged == whole
    assert (len(whole), follow) == (5, [3, 1, 0])
    ranks = [(-sums.tokens_in, key) for key, sums in whole]
    assert of is UsageOf.HOUR or ranks == sorted(ranks)


async def test_only_the_shares_and_the_time_asked_for_count(plane: ControlPlane):
    spool = lines(Opened(at_us=AT_US, node="gw1"), outcome("req_a"), outcome("req_b", at_us=AT_US + 2 * HOUR_US))
    await ship(plane, 0, spool)

    assert (await used(plane, UsageOf.MODEL, hours=1))["tiny"].calls == 1
    assert await used(plane, UsageOf.MODEL, shares=["other"]) == {}
    assert (await used(plane, UsageOf.MODEL, shares=["lab"]))["tiny"].calls == 2


async def test_old_rows_and_hours_go_and_days_stay(plane: ControlPlane):
    await ship(plane, 0, lines(Opened(at_us=AT_US, node="gw1"), outcome("req_a")))
    plane.clock.move((BEGAN - plane.clock.now()).total_seconds() + 401 * 86400)

    async with plane.database.transaction() as tx:
        await service.forget_old_requests(tx, SYSTEM)
        left = await tx.session.scalar(select(func.count()).select_from(InferenceRequest))
        spans = (await tx.session.scalars(select(InferenceSum.span))).all()

    assert (left, list(spans)) == (0, ["day"])


@pytest.mark.parametrize(
    ("of", "keys"),
    [
        (UsageOf.SHARE, {"lab": 2}),
        (UsageOf.DAY, {f"{BEGAN:%Y-%m-%d}": 1, f"{BEGAN + timedelta(days=3):%Y-%m-%d}": 1}),
        (UsageOf.HOUR, {f"{BEGAN:%Y-%m-%d}": 1, f"{BEGAN + timedelta(days=3):%Y-%m-%dT%H:00Z}": 1}),
    ],
)
async def test_hours_that_are_gone_are_told_by_their_days(plane: ControlPlane, of: UsageOf, keys: dict[str, int]):
    spool = lines(Opened(at_us=AT_US, node="gw1"), outcome("req_a"), outcome("req_b", at_us=AT_US + 72 * HOUR_US))
    await ship(plane, 0, spool)
    plane.clock.move((BEGAN - plane.clock.now()).total_seconds() + 401 * 86400)
    async with plane.database.transaction() as tx:
        await service.forget_old_requests(tx, SYSTEM)

    found = await used(plane, of, since=BEGAN + timedelta(minutes=1), hours=100)

    assert {key: sums.calls for key, sums in found.items()} == keys


NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
OLDEST = datetime(2025, 10, 25, tzinfo=UTC)  # 400 days before, and one that may be swept meanwhile


def test_it_is_told_from_when_on_hours_are_known_and_days_before_are_whole():
    asked = rules.reach(UsageOf.KEY, since=OLDEST - timedelta(hours=30), until=NOW, now=NOW)

    assert asked == Reach(OLDEST - timedelta(days=2), NOW, OLDEST)
    assert rules.oldest_hour(NOW) == OLDEST - timedelta(days=1), "what is asked for by hours is not swept meanwhile"


@pytest.mark.parametrize("days", [(400, 300), (400, 10), (10, 1)])
def test_runs_are_known_as_far_back_as_their_requests_are_kept(days: tuple[int, int]):
    since, until = (NOW - timedelta(days=ago) for ago in days)

    asked = rules.reach(UsageOf.RUN, since=since, until=until, now=NOW)

    kept = NOW - timedelta(days=90)
    assert asked == Reach(min(max(since, kept), until), until, kept)


@pytest.mark.parametrize("ends", [datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=5))), NOW])
def test_a_time_at_the_end_of_all_calendars_can_be_asked_for(ends: datetime):
    first = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))

    asked = rules.reach(UsageOf.KEY, since=first, until=ends, now=NOW)

    assert (asked.since.year, asked.until.year) == (1970, 2026)


by_hour = st.sampled_from([of for of in UsageOf if of is not UsageOf.RUN])
moments = st.integers(0, 240 * 60).map(lambda minutes: OLDEST + timedelta(days=-5, minutes=minutes))


@given(moments, st.timedeltas(timedelta(seconds=1), timedelta(days=9)), by_hour, moments)
def test_every_hour_that_is_asked_for_is_counted_by_itself_or_by_its_day_and_never_twice(since, length, of, moment):
    asked = rules.reach(of, since=since, until=since + length, now=NOW)
    parts = rules.parts_of(asked, of)
    hour = moment.replace(minute=0, second=0, microsecond=0)
    starts = {"hour": hour, "day": hour.replace(hour=0)}

    counted = [part for part in parts if part.since <= starts[part.span] < part.until]

    assert len(counted) == (asked.since <= hour < asked.until)
    if since <= hour < since + length:
        assert len(counted) == 1, "what was asked for is there"


def taken(number: int, result: Result, tokens: int | None, at_us: int) -> Outcome:
    return Outcome(
        at_us=at_us, prev=FIRST_PREV, seq=number, v=1, kind="outcome", bytes_out=0, code="", duration_us=2,
        endpoint="e", key="k", project="p", replica="", request=f"r{number}", result=result, status=200,
        tokens_in=tokens, tokens_out=tokens,
    )  # fmt: skip


told = st.tuples(
    st.sampled_from(["answered", "failed", "cancelled", "unknown"]),
    st.none() | st.integers(0, 10**6),
    st.integers(AT_US, AT_US + 90 * HOUR_US),
)


@given(st.lists(told, max_size=30))
def test_hours_and_days_both_hold_every_request_once(those):
    sums = rules.add_up(taken(number, *one) for number, one in enumerate(those))

    for span in ("hour", "day"):
        total = sum((value for cell, value in sums.items() if cell.span == span), Requests())
        assert total.calls == len(those)
        assert total.tokens_in == sum(tokens or 0 for _, tokens, _ in those)
        assert total.failures == sum(result in ("failed", "unknown") for result, _, _ in those)
    assert list(sums) == sorted(sums)
