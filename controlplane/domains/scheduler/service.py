"""What the scheduler ought to have, what it has, and who used how much of the site."""

from collections.abc import Mapping
from datetime import datetime

from controlplane.domains.allocation import service as allocation
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.metering import service as metering
from controlplane.domains.metering.types import UsageOf
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.domains.scheduler import store
from controlplane.domains.scheduler.rules.plan import compare
from controlplane.domains.scheduler.rules.usage import cursor_after, group, group_requests, of_shares, read_after
from controlplane.domains.scheduler.tables import ApplyAsk
from controlplane.domains.scheduler.types import RequestsBy, RequestsReport, Situation, UsageBy, UsageReport
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Share
from controlplane.engines.scheduler import SchedulerState
from controlplane.kit.errors import BadInput, NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx


async def show_scheduler(tx: Tx, actor: Actor, *, takes_over: bool = False) -> Situation:
    """Return what is wanted, what the scheduler had when it was last read, and what would be changed or is drift.

    With `takes_over` what would be changed if today's drift were ended.
    """
    await policy.require(tx, actor, "scheduler.read", "site")
    return await _look(tx, takes_over=takes_over)


async def ask_to_apply(tx: Tx, actor: Actor, *, takes_over: bool) -> ApplyAsk:
    """Have the scheduler brought to what is wanted at the loop's next step; with `takes_over` end today's drift too."""
    if takes_over:
        await policy.require(tx, actor, "scheduler.take_over", "site")
    else:
        await policy.require(tx, actor, "scheduler.apply", "site")
    now = await _look(tx)
    over = [f"{drift.kind} {drift.name}" for drift in now.plan.drift] if takes_over else []
    row = ApplyAsk(
        id=new_id("apply"),
        asked_by=actor.id,
        asked_at=tx.now,
        takes_over=takes_over,
        over=over,
        changes=[],
        failures=[],
    )
    store.add(tx, row)
    await audit.record(tx, actor, "scheduler.apply_asked", row.id, takes_over=takes_over, over=over)
    return row


async def get_ask(tx: Tx, actor: Actor, *, ask_id: str) -> ApplyAsk:
    await policy.require(tx, actor, "scheduler.read", ask_id)
    found = await store.find_ask(tx, ask_id)
    if found is None:
        raise NotFound(f"nobody asked for {ask_id}", remedy="redoubt scheduler apply")
    return found


async def report_usage(
    tx: Tx, actor: Actor, *, project: str, since: datetime, until: datetime | None, by: UsageBy
) -> UsageReport:
    """Return GPU-seconds between two times, grouped; a tenant sees its own project alone."""
    project = project or actor.project
    await policy.require(tx, actor, "usage.read", Resource("usage", project or "site", project=project))
    ends_at = min(until or tx.now, tx.now)
    if ends_at <= since:
        raise BadInput("the time ends before it begins", remedy="give --since before --until, and before now")
    known = {share.name: share.project for share in await shares.list_all_shares(tx)}
    if project and known.get(project) != project:
        raise NotFound(f"no project {project}", remedy="redoubt project list")
    accounts = [name for name, of_project in known.items() if of_project == project] if project else None
    used = await metering.sum_used_time(tx, since=since, until=ends_at, accounts=accounts)
    known_until = await metering.usage_known_until(tx)
    return UsageReport(by, project, since, ends_at, known_until, group(used, by, known))


async def report_requests(
    tx: Tx, actor: Actor, *, project: str, since: datetime, until: datetime | None, by: RequestsBy, page: Page
) -> RequestsReport:
    """Return a page of what requests used between two times, grouped; a tenant sees its own project alone."""
    project = project or actor.project
    await policy.require(tx, actor, "usage.read", Resource("usage", project or "site", project=project))
    ends_at = until or tx.now
    known = {share.name: share for share in await shares.list_all_shares(tx)}
    names = _names_of(project, ends_at, since, known)
    after = read_after(page.after)
    if of_shares(by):
        reach, sums = await metering.rank_requests(tx, of=UsageOf.SHARE, since=since, until=ends_at, shares=names)
        ranked = group_requests(sums.rows, by, known, limit=page.limit, after=after)
    else:
        reach, ranked = await metering.rank_requests(
            tx, of=UsageOf(by), since=since, until=ends_at, shares=names, limit=page.limit, after=after
        )
    return RequestsReport(by, project, reach, ranked.rows, ranked.more, cursor_after(ranked))


def _names_of(project: str, ends_at: datetime, since: datetime, known: Mapping[str, Share]) -> list[str] | None:
    """Return the shares to look at, None for all. Raises BadInput or NotFound."""
    if ends_at <= since:
        raise BadInput("the time ends before it begins", remedy="give --since before --until, and before now")
    if not project:
        return None
    names = [name for name, share in known.items() if share.project == project]
    if project not in names:
        raise NotFound(f"no project {project}", remedy="redoubt project list")
    return names


async def _look(tx: Tx, *, takes_over: bool = False) -> Situation:
    """Compare as the loop does, on what it read last."""
    wanted, seen = await allocation.wanted_scheduler(tx), await store.find_seen(tx)
    observed = store.state_of(seen) if seen else SchedulerState()
    hands = store.hands_of(seen) if seen else ()
    left = await store.list_left(tx)
    plan = compare(wanted, left, observed, tx.now, hands=hands)
    if takes_over:
        over = frozenset((drift.kind, drift.name) for drift in plan.drift)
        plan = compare(wanted, left, observed, tx.now, take_over=over)
    failures = tuple(seen.failures) if seen else ()
    return Situation(wanted, observed, seen.seen_at if seen else None, plan, seen.error if seen else "", failures)
