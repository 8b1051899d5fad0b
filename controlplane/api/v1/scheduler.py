"""The scheduler's shares, limits and reservations, and what was used of the GPUs."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from controlplane.api.v1.paging import Paged
from controlplane.contracts import scheduler as shapes
from controlplane.domains.metering.types import Requests
from controlplane.domains.scheduler import service as scheduler
from controlplane.domains.scheduler.rules.plan import describe, things_of
from controlplane.domains.scheduler.tables import ApplyAsk
from controlplane.domains.scheduler.types import RequestsBy, Situation, UsageBy
from controlplane.kit.paging import to_cursor
from controlplane.web.actor import Person
from controlplane.web.transaction import Transaction

router = APIRouter(tags=["scheduler"])

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)  # before any site


@router.get("/scheduler")
async def show_scheduler(
    tx: Transaction, actor: Person, *, takes_over: Annotated[bool, Query()] = False
) -> shapes.SchedulerView:
    """Return the scheduler as it was read last; with `takes_over` what would be changed if drift were ended."""
    now = await scheduler.show_scheduler(tx, actor, takes_over=takes_over)
    return shapes.SchedulerView(
        read_at=now.observed_at,
        error=now.error,
        things=tuple(_things(now, tx.now)),
        changes=now.plan.changes,
        drift=tuple(
            shapes.DriftedThing(kind=drift.kind, name=drift.name, what=drift.what, hands=drift.hands)
            for drift in now.plan.drift
        ),
        failures=now.failures,
    )


@router.post("/scheduler/applies", status_code=202)
async def apply(body: shapes.AskApply, tx: Transaction, actor: Person) -> shapes.Apply:
    """Have the scheduler brought to what is wanted at the reconciler's next step."""
    return to_apply(await scheduler.ask_to_apply(tx, actor, takes_over=body.takes_over))


@router.get("/scheduler/applies/{apply_id}")
async def get_apply(apply_id: str, tx: Transaction, actor: Person) -> shapes.Apply:
    return to_apply(await scheduler.get_ask(tx, actor, ask_id=apply_id))


@router.get("/usage")
async def report_usage(
    tx: Transaction,
    actor: Person,
    *,
    project: Annotated[str, Query(max_length=80)] = "",
    since: Annotated[AwareDatetime, Query()] = BEGINNING,
    until: Annotated[AwareDatetime | None, Query()] = None,
    by: Annotated[shapes.By, Query()] = "project",
) -> shapes.Usage:
    """Return GPU-seconds, grouped; what is not over yet counts up to now."""
    found = await scheduler.report_usage(tx, actor, project=project, since=since, until=until, by=UsageBy(by))
    return shapes.Usage(
        by=by,
        project=found.project,
        since=found.since,
        until=found.until,
        known_until=found.known_until,
        rows=tuple(
            shapes.UsageRow(key=row.key, gpu_seconds=row.gpu_seconds, starts=row.starts, running=row.running)
            for row in found.rows
        ),
    )


@router.get("/usage/requests")
async def report_requests(
    tx: Transaction,
    actor: Person,
    *,
    project: Annotated[str, Query(max_length=80)] = "",
    since: Annotated[AwareDatetime, Query()] = BEGINNING,
    until: Annotated[AwareDatetime | None, Query()] = None,
    by: Annotated[shapes.RequestsBy, Query()] = "team",
    page: Paged,
) -> shapes.RequestsUsage:
    """Return a page of tokens and requests of inference, grouped, by the hours that begin between two times."""
    found = await scheduler.report_requests(
        tx, actor, project=project, since=since, until=until, by=RequestsBy(by), page=page
    )
    rows = tuple(_to_requests(key, sums) for key, sums in found.rows)
    reach = found.reach
    return shapes.RequestsUsage(
        by=by,
        project=found.project,
        since=reach.since,
        until=reach.until,
        known_since=reach.known_since,
        rows=rows,
        more=found.more,
        cursor=None if found.after is None else to_cursor(found.after),
    )


def _to_requests(key: str, sums: Requests) -> shapes.RequestsRow:
    return shapes.RequestsRow(
        key=key,
        calls=sums.calls,
        failures=sums.failures,
        untold=sums.untold,
        retries=sums.retries,
        tokens_in=sums.tokens_in,
        tokens_out=sums.tokens_out,
        tokens_cached=sums.tokens_cached,
        tokens_reasoning=sums.tokens_reasoning,
        gpu_seconds=round(sums.gpu_us / 1e6, 3),
        queue_s=round(sums.queue_us / 1e6 / sums.calls, 6) if sums.calls else 0.0,
        first_token_s=round(sums.ttft_us / 1e6 / sums.ttft_calls, 6) if sums.ttft_calls else None,
    )


def to_apply(row: ApplyAsk) -> shapes.Apply:
    return shapes.Apply(
        id=row.id,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        takes_over=row.takes_over,
        over=tuple(row.over),
        done_at=row.done_at,
        changes=tuple(row.changes),
        failures=tuple(row.failures),
    )


def _things(now: Situation, at: datetime) -> list[shapes.SchedulerThing]:
    """Return all there is and all there ought to be, each with how it stands."""
    drifted = {(drift.kind, drift.name) for drift in now.plan.drift}
    asked, there = things_of(now.wanted, at), things_of(now.observed, at)
    found = []
    for key in sorted({*asked, *there, *now.plan.touched}):
        thing = there.get(key) or asked[key]
        state = "change" if key in now.plan.touched else "right" if key in asked else "foreign"
        state = "drift" if key in drifted else state
        found.append(shapes.SchedulerThing(kind=key[0], name=key[1], state=state, what=describe(thing)))
    for words in now.observed.foreign:
        head, _, what = words.partition(": ")
        kind, _, name = head.partition(" ")
        if (kind, name) not in {(drift.kind, drift.name) for drift in now.plan.drift}:
            found.append(shapes.SchedulerThing(kind=kind, name=name, state="foreign", what=what))
    return found
