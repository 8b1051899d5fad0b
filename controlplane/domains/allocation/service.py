"""Leases: the right to whole GPUs, granted by a rule and bound to what the engine gave."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from controlplane.domains.allocation import store
from controlplane.domains.allocation.rules import claims, placement, quota, rooms, wanted
from controlplane.domains.allocation.rules import explain as explaining
from controlplane.domains.allocation.rules.placement import Look
from controlplane.domains.allocation.tables import Lease, LeasedGpu
from controlplane.domains.allocation.types import (
    Admission,
    Ask,
    Claim,
    Explanation,
    LeaseFact,
    Placement,
    Site,
    Used,
)  # fmt: skip
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import SYSTEM, Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.domains.shares import rules as share_rules
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import Pool, Project, Share
from controlplane.engines.scheduler import SchedulerState
from controlplane.kit.errors import BadInput, Conflict, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

LOADED = "loaded_site"  # where a transaction keeps what it loaded
RETRY = "the run ends; a new one starts by itself"


async def hold_granting(tx: Tx) -> None:
    """Hold the site's granting lock until the transaction ends.

    Every verb that changes leases does; who locks rows of its own and then calls one takes this before, or two of them
    wait for each other.
    """
    await store.lock_granting(tx)


async def admit(
    tx: Tx, *, share: str, pool: Pool, ask: Ask, waits: bool = False, yields: bool = False, firm: bool = False,
    preempts: bool = True,
) -> Admission:  # fmt: skip
    """Say how work runs; raises Refused (`no_fit`, `over_quota`, `no_quota`) with reasons and the way forward.

    What `waits` in the engine's queue needs no room now, only that it can ever have it. What `yields` may be preempted
    by anybody who keeps within a guarantee; what is `firm` must be within its own, or it is `beyond_guarantee`.
    `preempts` says that the engine can.
    """
    await store.lock_granting(tx)
    site = await look_around(tx)
    found = await _open_share(tx, share)
    claim = claims.claim_of(site, found, pool, yields=yields, firm=firm)
    look = Look.at(ask, claim, site.rooms, tx.now)
    placed = placement.choose(look, site.rooms, preempts=preempts)
    if placed is None and waits:
        _require_ever(ask, claim, site)
    elif placed is None:
        raise explaining.refuse(look, site.rooms).to_error(claims.words_of(ask))
    return claims.admission(look, found, site.rooms, placed)


async def admission_of(tx: Tx, *, owner: str, ask: Ask) -> Admission:
    """Say how the holder of a lease runs, as it was let in. Raises Conflict when its lease is over."""
    await store.lock_granting(tx)
    lease = await store.find_live_lease(tx, owner)
    if lease is None:
        raise Conflict(f"{owner} holds no lease", remedy=RETRY)
    site = await look_around(tx)
    found = site.shares[lease.share]
    claim = claims.claim_of(site, found, Pool(lease.pool), yields=lease.over_quota)
    look = Look.at(ask, replace(claim, used=Used()), site.rooms, tx.now)
    return claims.admission(look, found, site.rooms, Placement((lease.node,), lease.gpu_type, lease.over_quota))


async def grant_lease(
    tx: Tx, actor: Actor, *, owner: str, ask: Ask, admission: Admission, expires_at: datetime | None
) -> Lease:
    """Take the GPUs of an admission of this transaction; its first node is only where they are counted."""
    await policy.require(tx, actor, "lease.grant", owner)
    placed = admission.placement
    if placed is None:
        raise Refused(f"{claims.words_of(ask)} cannot be had", remedy="wait until it fits", code="no_fit")
    lease = Lease(
        id=new_id("lease"), owner=owner, count=ask.count, gpu_type=placed.gpu_type, node=placed.nodes[0],
        share=admission.share, pool=admission.pool, over_quota=admission.over_quota,
        preemptible=admission.preemptible, granted_at=tx.now, expires_at=expires_at, end_reason="",
    )  # fmt: skip
    store.add(tx, lease)
    await tx.session.flush()
    await audit.record(tx, actor, "lease.granted", lease.id, **_facts(lease))
    _note_grant(tx, lease)
    return lease


async def bind_gpus(
    tx: Tx, *, owner: str, node: str, gpu_uuids: Sequence[str], expires_at: datetime | None = None
) -> None:
    """Write which GPUs the engine gave. Raises Conflict when one is not to be had, or too few came.

    The engine is the truth of who runs where: whom it preempted for this loses the lease here and now.
    """
    await store.lock_granting(tx)
    lease = await store.find_live_lease(tx, owner)
    if lease is None or len(set(gpu_uuids)) != lease.count or await store.list_gpus_of(tx, lease.id):
        raise Conflict(f"{owner} holds no lease of {len(gpu_uuids)} GPUs that is not bound", remedy=RETRY)
    gpu_type = await _type_of(tx, gpu_uuids)
    if gpu_type not in ("", lease.gpu_type):
        raise Conflict(f"{owner} was granted {lease.gpu_type} and got {gpu_type}", remedy=RETRY)
    await _free_for(tx, lease.owner, gpu_uuids)
    lease.node, lease.expires_at = node, expires_at or lease.expires_at
    for uuid in gpu_uuids:
        store.add(tx, LeasedGpu(lease_id=lease.id, gpu_uuid=uuid))
    await tx.session.flush()
    _forget(tx)


async def begin_lease(
    tx: Tx, actor: Actor, *, owner: str, share: str, pool: Pool, over_quota: bool, preemptible: bool,
    gpu_uuids: Sequence[str], node: str, expires_at: datetime | None,
) -> Lease:  # fmt: skip
    """Grant and bind in one step, for work that waited in the engine's queue and now runs.

    The same again changes nothing; an owner that begins anew elsewhere ends what it held. Raises Conflict when a GPU
    is not to be had or a limit would be passed.
    """
    await policy.require(tx, actor, "lease.grant", owner)
    await store.lock_granting(tx)
    gpu_type, held = await _type_of(tx, gpu_uuids), await store.find_live_lease(tx, owner)
    if held is not None and set(await store.list_gpus_of(tx, held.id)) == set(gpu_uuids):
        return held
    if held is not None:
        await _end(tx, actor, held, "its run began again")
    await _free_for(tx, owner, gpu_uuids)
    await _require_within(tx, share, pool, gpu_type, len(gpu_uuids), yields=over_quota)
    lease = Lease(
        id=new_id("lease"), owner=owner, count=len(gpu_uuids), gpu_type=gpu_type, node=node, share=share, pool=pool,
        over_quota=over_quota, preemptible=preemptible, granted_at=tx.now, expires_at=expires_at, end_reason="",
    )  # fmt: skip
    store.add(tx, lease)
    await tx.session.flush()
    for uuid in gpu_uuids:
        store.add(tx, LeasedGpu(lease_id=lease.id, gpu_uuid=uuid))
    await tx.session.flush()
    _forget(tx)
    await audit.record(tx, actor, "lease.granted", lease.id, gpus=list(gpu_uuids), **_facts(lease))
    return lease


async def renew_lease(tx: Tx, actor: Actor, *, owner: str, expires_at: datetime) -> None:
    """Move the end of the owner's lease. Raises Conflict when it is over."""
    await policy.require(tx, actor, "lease.renew", owner)
    await store.lock_granting(tx)
    lease = await store.find_live_lease(tx, owner)
    if lease is None:
        raise Conflict(f"{owner} holds no lease", remedy=RETRY)
    lease.expires_at = expires_at
    await audit.record(tx, actor, "lease.renewed", lease.id, owner=owner, expires_at=expires_at.isoformat())


async def end_lease(tx: Tx, actor: Actor, *, owner: str, reason: str) -> None:
    """End the owner's lease, if it has one."""
    await policy.require(tx, actor, "lease.end", owner)
    await store.lock_granting(tx)
    lease = await store.find_live_lease(tx, owner)
    if lease is not None:
        await _end(tx, actor, lease, reason)


async def expire_leases(tx: Tx, actor: Actor) -> int:
    """End leases whose time is over: the engine has ended their work by then. Return how many."""
    await policy.require(tx, actor, "lease.end", "site")
    await store.lock_granting(tx)
    expired = await store.list_expired(tx)
    for lease in expired:
        await _end(tx, actor, lease, "its time is over")
    return len(expired)


async def list_leases(tx: Tx, actor: Actor, *, page: Page, live: bool = False) -> Sequence[Lease]:
    await policy.require(tx, actor, "lease.read", "site")
    return await store.list_leases(tx, page, live=live)


async def get_lease(tx: Tx, actor: Actor, *, name: str) -> tuple[Lease, Sequence[str]]:
    """Return a lease, by its id or by who holds it, and its GPUs."""
    await policy.require(tx, actor, "lease.read", name)
    lease = await store.find_lease(tx, name) or await store.find_live_lease(tx, name)
    if lease is None:
        raise NotFound(f"no lease {name}, and nobody of that name holds one", remedy="redoubt lease list")
    return lease, await store.list_gpus_of(tx, lease.id)


async def explain(tx: Tx, actor: Actor, *, share: str, pool: Pool, ask: Ask) -> Explanation:
    """Say what would happen to an ask now, and why, GPU by GPU. It changes nothing.

    A tenant is not told what others run.
    """
    seen = await shares.show_share(tx, actor, name=share)
    await policy.require(tx, actor, "allocation.explain", Resource("share", share, project=seen.project))
    site = await look_around(tx, hide_but=actor.project)
    found = await _open_share(tx, share)
    claim = claims.claim_of(site, found, pool, tells=actor.project)
    look = Look.at(ask, claim, site.rooms, tx.now)
    placed = placement.choose(look, site.rooms)
    return explaining.explain(look, site.rooms, placed, claims.admission(look, found, site.rooms, placed))


async def require_possible(tx: Tx, *, share: str, pool: Pool, ask: Ask) -> None:
    """Raise Refused when the ask can never fit the fleet as it reports now, or the share's limits."""
    site = await look_around(tx)
    _require_ever(ask, claims.claim_of(site, await _open_share(tx, share), pool), site)


async def list_expiries(tx: Tx) -> dict[str, datetime | None]:
    """Return when each live lease ends, by its owner. For other domains."""
    return {lease.owner: lease.expires_at for lease in await store.list_live_leases(tx)}


async def guaranteed_in_use(tx: Tx) -> Mapping[tuple[str, str], int]:
    """Return the GPUs in live leases within a guarantee, by share, with all its parts, and type. For other domains."""
    site = await _books(tx)
    return quota.count_used(site.leases, {one.name: one.chain for one in site.shares.values()}).guaranteed


async def gpu_owners(tx: Tx) -> dict[str, str]:
    """Return who holds each GPU of a live lease, by its UUID. For faces that show GPUs to staff."""
    bound = await store.list_live_gpus(tx)
    return {uuid: lease.owner for lease in await store.list_live_leases(tx) for uuid in bound.get(lease.id, ())}


async def get_project(tx: Tx, name: str) -> Project:
    """Return a project; raises NotFound. For other domains."""
    return await shares.get_project(tx, name)


async def find_share(tx: Tx, name: str) -> Share | None:
    """Return a share, None when there is none. For other domains."""
    return await shares.find_share(tx, name)


async def wanted_scheduler(tx: Tx) -> SchedulerState:
    """Return what the scheduler ought to know: shares with their users and limits, classes of work, reservations."""
    site = await look_around(tx)
    return wanted.to_state(site, await shares.classes_of_work(tx), await shares.list_windows(tx))


async def list_closings(tx: Tx) -> dict[str, datetime]:
    """Return when maintenance begins on each node that has some before it. For other domains."""
    ahead = [window for window in await shares.list_windows(tx) if window.kind == "maintenance"]
    return {node: window.starts_at for window in reversed(ahead) for node in window.nodes}


async def longest_s(tx: Tx, pool: Pool) -> int:
    """Return the longest that work of a pool runs. For other domains."""
    return next(terms.max_time_s for terms in await shares.pool_terms(tx) if terms.pool is pool)


async def look_around(tx: Tx, *, hide_but: str = "") -> Site:
    """Load everything that a decision needs, once a transaction; `hide_but` is a tenant's project. For other domains.

    What a grant changes is changed in what was loaded; whatever else changes leases lets it be loaded anew.
    """
    known = tx.session.info.get(LOADED)
    if isinstance(known, Site) and not hide_but:
        return known
    books = await _books(tx, hide_but)
    seen = await fleet.view_fleet(tx)
    found = rooms.to_rooms(seen, books.leases, await shares.list_windows(tx), tells=not hide_but)
    site = replace(books, rooms=found)
    if not hide_but:
        tx.session.info[LOADED] = site
    return site


async def _books(tx: Tx, hide_but: str = "") -> Site:
    """Load who may use what and who does, without the fleet."""
    found = {share.name: share for share in await shares.list_all_shares(tx)}
    bound = await store.list_live_gpus(tx)
    return Site(
        shares=found,
        terms={pool.pool: pool for pool in await shares.pool_terms(tx)},
        quotas={(quota.share, quota.gpu_type): quota for quota in await shares.list_all_quotas(tx)},
        leases=tuple(
            _to_fact(row, found, tuple(bound.get(row.id, ())), hide_but) for row in await store.list_live_leases(tx)
        ),
        rooms=(),
    )


def _note_grant(tx: Tx, lease: Lease) -> None:
    site = tx.session.info.get(LOADED)
    if isinstance(site, Site):
        fact = _to_fact(lease, site.shares, (), "")
        left = rooms.with_grant(site.rooms, lease.node, lease.gpu_type, lease.count)
        tx.session.info[LOADED] = replace(site, leases=(*site.leases, fact), rooms=left)


def _forget(tx: Tx) -> None:
    tx.session.info.pop(LOADED, None)


async def _open_share(tx: Tx, name: str) -> Share:
    """Return a share in which work may begin."""
    found = await shares.get_share(tx, name)
    if not found.project:
        raise BadInput(f"{name} is an organisation: work runs in projects and teams", remedy="redoubt project list")
    if found.archived:
        raise Refused(f"{name} is archived: nothing new runs there", remedy="redoubt project list", code="archived")
    return found


def _require_ever(ask: Ask, claim: Claim, site: Site) -> None:
    refusal = placement.could_ever_fit(ask, claim, site.rooms)
    if refusal is not None:
        raise refusal.to_error(claims.words_of(ask))


async def _free_for(tx: Tx, owner: str, gpu_uuids: Sequence[str]) -> None:
    """End what was preempted for a run. Raises Conflict when a GPU is cordoned, or in a lease that nobody may take."""
    cordons = await fleet.cordoned_gpus(tx)
    cordoned = [f"{uuid} is cordoned: {cordons[uuid].reason}" for uuid in gpu_uuids if uuid in cordons]
    if cordoned:
        raise Conflict("; ".join(cordoned), remedy=RETRY)
    holders = await store.list_holders(tx, gpu_uuids)
    firm = [lease for lease in holders if not lease.preemptible]
    if firm:
        raise Conflict(f"leased already to {', '.join(lease.owner for lease in firm)}", remedy=RETRY)
    for lease in holders:
        await _end(tx, SYSTEM, lease, f"preempted by {owner}")


async def _require_within(tx: Tx, share: str, pool: Pool, gpu_type: str, count: int, *, yields: bool) -> None:
    books = await _books(tx)
    claim = claims.claim_of(books, await shares.get_share(tx, share), pool, yields=yields)
    verdict = quota.judge(claim, gpu_type, count)
    if verdict.code:
        raise Conflict(verdict.why, remedy=verdict.remedy, code=verdict.code)


async def _type_of(tx: Tx, gpu_uuids: Sequence[str]) -> str:
    """Return the one type of these GPUs, "" when no agent has reported them."""
    types = set((await fleet.find_types(tx, gpu_uuids)).values())
    if len(types) > 1:
        raise Conflict(f"GPUs of several types: {', '.join(sorted(types))}", remedy=RETRY)
    return types.pop() if types else ""


async def _end(tx: Tx, actor: Actor, lease: Lease, reason: str) -> None:
    await store.mark_ended(tx, lease, reason)
    _forget(tx)
    await audit.record(tx, actor, "lease.ended", lease.id, owner=lease.owner, reason=reason)


def _facts(lease: Lease) -> dict[str, object]:
    facts = ("owner", "count", "gpu_type", "node", "share", "pool", "over_quota")
    return {name: getattr(lease, name) for name in facts}


def _to_fact(row: Lease, known: Mapping[str, Share], gpu_uuids: tuple[str, ...], hide_but: str) -> LeaseFact:
    project = known[row.share].project if row.share in known else row.share
    return LeaseFact(
        id=row.id,
        owner=row.owner,
        share=row.share,
        project=project,
        pool=Pool(row.pool),
        qos=share_rules.qos_of(Pool(row.pool), over_quota=row.over_quota),
        preemptible=row.preemptible,
        over_quota=row.over_quota,
        gpu_type=row.gpu_type,
        node=row.node,
        count=row.count,
        granted_at=row.granted_at,
        expires_at=row.expires_at,
        gpu_uuids=gpu_uuids,
        hidden=bool(hide_but) and project != hide_but,
    )
