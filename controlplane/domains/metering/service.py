"""What gateways did, merged into the audit log, and what runs used of the site's GPUs.

Each line and each start counts once, however often it is told.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from controlplane.contracts.spool import AnyLine, Closed, Denial, Intent, Opened, Outcome, ShipSpool
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.keys import service as keys
from controlplane.domains.metering import rules, store
from controlplane.domains.metering.types import After, Place, Ranked, Reach, Spent, UsageOf, UsedTime, from_us
from controlplane.domains.policy import service as policy
from controlplane.engines.scheduler import UsedGpus
from controlplane.kit.tx import Tx

CHAIN = {"prev", "seq", "v", "kind", "at_us"}
OF_ACTOR = {"key", "project", "secret", "source", "request", "policy"}


async def take_spool(tx: Tx, actor: Actor, *, shipped: ShipSpool) -> int:
    """Take the lines that are new and return the number of the next one. Raises SpoolGap or SpoolBroken."""
    await policy.require(tx, actor, "spool.ship", "site")
    row = await store.find_or_add_spool(tx, actor.id, shipped.boot)
    place, fresh = rules.take(Place(row.next_seq, row.last_sha256), shipped.first, shipped.lines)
    for line in fresh:
        await _record(tx, actor, shipped.boot, line)
        if isinstance(line, Closed):
            row.closed_at = tx.now
    if fresh:
        row.next_seq, row.last_sha256, row.last_at = place.next_seq, place.last_sha256, tx.now
        await keys.record_uses(tx, actor, uses=rules.uses(fresh))
        await store.add_spent(tx, actor.id, shipped.boot, rules.amounts_spent(fresh))
        await _count(tx, shipped.boot, [line for line in fresh if isinstance(line, Outcome)])
    return place.next_seq


async def list_closed(tx: Tx, lives: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which of these (gateway, boot) have a spool that is taken whole: what they spent is final."""
    return await store.list_closed(tx, lives) if lives else set()


async def list_spent(tx: Tx, accounts: Sequence[str]) -> list[Spent]:
    """Return who spent how much of these accounts. Who was closed before this question was asked spends no more."""
    return await store.list_spent(tx, accounts)


async def list_unfolded(tx: Tx, *, limit: int) -> Sequence[str]:
    """Return accounts of which lives that are closed spent, each for itself."""
    return await store.list_unfolded(tx, limit)


async def fold_spent(tx: Tx, actor: Actor, accounts: Sequence[str]) -> None:
    """Keep one sum of what all closed lives spent of each account; it is told as spent by no life ("", "")."""
    await policy.require(tx, actor, "budget.sweep", "site")
    await store.fold_spent(tx, accounts)


async def forget_spent(tx: Tx, actor: Actor, accounts: Sequence[str]) -> None:
    """Forget what was spent of accounts of which nothing is granted any more."""
    await policy.require(tx, actor, "budget.sweep", "site")
    await store.delete_spent(tx, accounts)


async def record_used(tx: Tx, actor: Actor, *, used: Sequence[UsedGpus], known_until: datetime) -> None:
    """Write down what the engine accounts for: starts of runs, and when they ended."""
    await policy.require(tx, actor, "usage.record", "site")
    newest = {(use.ref, use.started_at): use for use in used}  # of two words on one start the later one counts
    await store.mark_used(tx, list(newest.values()))
    await store.mark_known_until(tx, known_until)


async def sum_used_time(tx: Tx, *, since: datetime, until: datetime, accounts: Sequence[str] | None) -> list[UsedTime]:
    """Return what was used between two times, on these accounts or on all."""
    return await store.sum_used_time(tx, since=since, until=until, accounts=accounts)


async def usage_known_until(tx: Tx) -> datetime | None:
    return await store.find_known_until(tx)


async def rank_requests(
    tx: Tx,
    *,
    since: datetime,
    until: datetime,
    of: UsageOf,
    shares: Sequence[str] | None,
    limit: int | None = None,
    after: After | None = None,
) -> tuple[Reach, Ranked]:
    """Return what requests used in the hours that begin between two times, of these shares or of all.

    Most tokens first, and days and hours in their order. Without a `limit` there may be as many rows as names.
    """
    asked = rules.reach(of, since=since, until=until, now=tx.now)
    if of is UsageOf.RUN:
        return asked, await store.rank_runs(tx, asked, shares=shares, limit=limit, after=after)
    parts = rules.parts_of(asked, of)
    return asked, await store.rank_sums(tx, parts, of=of, shares=shares, limit=limit, after=after)


async def forget_old_requests(tx: Tx, actor: Actor) -> None:
    """Let single requests and hours go when they are old; days are kept for ever, and so is the audit log."""
    await policy.require(tx, actor, "usage.sweep", "site")
    await store.delete_requests_before(tx, tx.now - rules.REQUESTS_KEPT)
    await store.delete_hours_before(tx, rules.oldest_hour(tx.now))
    kept = {"requests_days": rules.REQUESTS_KEPT.days, "hours_days": rules.HOURS_KEPT.days}
    await audit.record(tx, actor, "usage.swept", "site", **kept)


async def _count(tx: Tx, boot: str, outcomes: Sequence[Outcome]) -> None:
    await store.add_requests(tx, boot, outcomes)
    sums = rules.add_up(outcomes)
    await store.add_to_sums(tx, rules.rename(sums, await _admitted(tx, rules.wanted_names(sums))))


async def _admitted(
    tx: Tx, wanted: Mapping[rules.Slot, Collection[rules.Names]]
) -> dict[rules.Slot, dict[rules.Names, rules.Names]]:
    """Return under which names to add up where there are new ones: of two gateways one at a time adds names there."""
    there = await store.find_names(tx, wanted)
    new = [slot for slot, names in wanted.items() if any((slot, one) not in there for one in names)]
    await store.lock_slots(tx, new)
    return {slot: rules.admit(await store.list_names(tx, slot), wanted[slot]) for slot in new}


async def _record(tx: Tx, gateway: Actor, boot: str, line: AnyLine) -> None:
    """Record a line as the act of its key; where it stands in the spool is said too."""
    spool = {"spool": boot, "line": line.seq, "done_at": f"{from_us(line.at_us):%Y-%m-%dT%H:%M:%S.%fZ}"}
    match line:
        case Opened():
            await audit.record(tx, gateway, "spool.opened", boot, node=line.node, **spool)
        case Closed():
            await audit.record(tx, gateway, "spool.closed", boot, **spool)
        case Intent() | Denial():
            actor = Actor(
                line.key, Role.TENANT_USER, project=line.project, session=line.secret, method="key", source=line.source
            )
            verb = "inference.intended" if isinstance(line, Intent) else "inference.denied"
            await _record_act(tx, actor, verb, line, spool, policy_digest=line.policy)
        case Outcome():
            actor = Actor(line.key, Role.TENANT_USER, project=line.project, method="key")
            await _record_act(tx, actor, f"inference.{line.result}", line, spool, policy_digest="")


async def _record_act(
    tx: Tx,
    actor: Actor,
    event: str,
    line: Intent | Denial | Outcome,
    spool: dict[str, object],
    *,
    policy_digest: str,
) -> None:
    around = tx.session.info
    own = {name: around.get(name, "") for name in ("request_id", "policy_digest")}
    around |= {"request_id": line.request, "policy_digest": policy_digest}  # the gateway's, not this request's
    try:
        await audit.record(tx, actor, event, line.request, **line.model_dump(exclude=CHAIN | OF_ACTOR), **spool)
    finally:
        around |= own
