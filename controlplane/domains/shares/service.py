"""Organisations, projects and teams, what each may use, pools, and what is kept for something."""

from collections.abc import Mapping, Sequence

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.domains.shares import rules, store
from controlplane.domains.shares.tables import PoolRow, ReservationRow
from controlplane.domains.shares.tables import Share as ShareRow
from controlplane.domains.shares.types import Pool, PoolTerms, Project, Quota, Share, ShareKind, Window
from controlplane.engines.scheduler import Qos
from controlplane.kit.errors import BadInput, Conflict, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Tx


async def create_share(
    tx: Tx, actor: Actor, *, kind: ShareKind, name: str, parent: str, weight: int, slots: int
) -> Share:
    """Make an organisation, a project or a team; a project gets a slot that none ever had, of `slots`."""
    await policy.require(tx, actor, "share.create", name)
    if name in rules.RESERVED or await store.find_share(tx, name) is not None:
        raise Conflict(f"the name {name} is taken, perhaps by one that is archived", remedy="choose another name")
    await _check_parent(tx, kind, parent)
    slot = await _next_slot(tx, slots) if kind is ShareKind.PROJECT else None
    store.add(tx, ShareRow(name=name, kind=kind, parent=parent or None, slot=slot, weight=weight, created_at=tx.now))
    await tx.session.flush()
    await audit.record(tx, actor, "share.created", name, kind=kind.value, parent=parent, slot=slot)
    return await get_share(tx, name)


async def archive_share(tx: Tx, actor: Actor, *, name: str) -> Share:
    """Let nothing new run for a share; what runs finishes, and its name and slot stay its own for ever."""
    share = await get_share(tx, name)
    await policy.require(tx, actor, "share.archive", _resource(share))
    if name in ("site", "redoubt"):
        raise Refused(f"{name} is the platform's own", remedy="redoubt project list")
    inside = [s.name for s in await list_all_shares(tx) if s.parent == name and not s.archived]
    if inside:
        raise Conflict(f"{name} has parts: {', '.join(inside)}", remedy=f"archive {inside[0]} first")
    row = await store.find_share(tx, name)
    if row is not None and row.archived_at is None:
        row.archived_at = tx.now
        await audit.record(tx, actor, "share.archived", name)
    return await get_share(tx, name)


async def keep_content(tx: Tx, actor: Actor, *, name: str, keeps: bool) -> Share:
    """Let gateways keep files and results of batches for a share and its parts, or no longer."""
    share = await get_share(tx, name)
    await policy.require(tx, actor, "share.keep_content", _resource(share))
    row = await store.find_share(tx, name)
    if row is not None and row.keeps_content != keeps:
        row.keeps_content = keeps
        await audit.record(tx, actor, "share.kept_content", name, keeps=keeps)
    return await get_share(tx, name)


async def list_shares(tx: Tx, actor: Actor) -> list[Share]:
    """Return what the actor may see: a tenant its own project, its teams and its organisation's name."""
    await policy.require(tx, actor, "share.read", Resource("share", "site", project=actor.project))
    return [share for share in await list_all_shares(tx) if rules.may_see(actor.project, share.chain)]


async def show_share(tx: Tx, actor: Actor, *, name: str) -> Share:
    """Return one share; another tenant's is not found."""
    share = await get_share(tx, name)
    if not rules.may_see(actor.project, share.chain):
        raise _unknown(name)
    await policy.require(tx, actor, "share.read", _resource(share))
    return share


async def set_quota(tx: Tx, actor: Actor, *, quota: Quota) -> Quota:
    """Say how many GPUs of a type a share may use, and how many of them nobody takes away."""
    share = await get_share(tx, quota.share)
    await policy.require(tx, actor, "quota.set", _resource(share))
    if not rules.bounded(share.project):
        raise Refused("the platform's own project has no quota", remedy="bound it: redoubt pool set inference …")
    if not 0 <= quota.guaranteed <= quota.most:
        raise BadInput(
            f"{quota.guaranteed} guaranteed of at most {quota.most}", remedy="guarantee no more than the limit"
        )
    await store.lock_shares(tx)
    await _check_promises(tx, share, quota)
    await store.mark_quota(tx, quota.share, quota.gpu_type, quota.guaranteed, quota.most)
    facts = {"gpu_type": quota.gpu_type, "guaranteed": quota.guaranteed, "most": quota.most}
    await audit.record(tx, actor, "quota.set", quota.share, **facts)
    return quota


async def list_quotas(tx: Tx, actor: Actor) -> list[Quota]:
    seen = {share.name for share in await list_shares(tx, actor)}
    return [quota for quota in await list_all_quotas(tx) if quota.share in seen]


async def set_pool(tx: Tx, actor: Actor, *, terms: PoolTerms) -> PoolTerms:
    """Change the terms of a pool; running work keeps those that it began under."""
    await policy.require(tx, actor, "pool.set", terms.pool)
    if terms.over_priority > terms.priority:
        raise BadInput("work beyond its guarantee comes first", remedy="give --over-priority no more than --priority")
    row = await store.get_pool(tx, terms.pool)
    row.max_gpus = dict(terms.max_gpus)
    row.max_time_s, row.grace_s, row.project_most = terms.max_time_s, terms.grace_s, terms.project_most
    row.priority, row.over_priority = terms.priority, terms.over_priority
    facts = {"max_gpus": row.max_gpus, "max_time_s": row.max_time_s, "grace_s": row.grace_s}
    await audit.record(tx, actor, "pool.set", terms.pool, priority=row.priority, project_most=row.project_most, **facts)
    return _to_terms(row)


async def list_pools(tx: Tx, actor: Actor) -> list[PoolTerms]:
    await policy.require(tx, actor, "pool.read", "site")
    return await pool_terms(tx)


async def create_reservation(tx: Tx, actor: Actor, *, window: Window, reason: str) -> ReservationRow:
    """Keep nodes for maintenance, for some accounts, or as spares."""
    await policy.require(tx, actor, "reservation.create", window.name)
    if await store.find_reservation(tx, window.name) is not None:
        raise Conflict(f"reservation {window.name} exists", remedy=f"redoubt reservation delete {window.name}")
    await _check_window(tx, window)
    row = ReservationRow(
        id=new_id("reservation"), name=window.name, kind=window.kind, starts_at=window.starts_at,
        ends_at=window.ends_at, nodes=list(window.nodes), node_count=window.node_count,
        accounts=list(window.accounts), reason=reason, made_by=actor.id, created_at=tx.now,
    )  # fmt: skip
    store.add(tx, row)
    facts: Mapping[str, object] = {"kind": row.kind, "nodes": row.nodes or row.node_count, "accounts": row.accounts}
    await audit.record(tx, actor, "reservation.created", window.name, starts_at=row.starts_at.isoformat(), **facts)
    return row


async def delete_reservation(tx: Tx, actor: Actor, *, name: str) -> None:
    """Give the nodes of a reservation back."""
    await policy.require(tx, actor, "reservation.delete", name)
    row = await store.find_reservation(tx, name)
    if row is None:
        raise NotFound(f"no reservation {name}", remedy="redoubt reservation list")
    row.deleted_at = tx.now
    await audit.record(tx, actor, "reservation.deleted", name)


async def list_reservations(tx: Tx, actor: Actor) -> Sequence[ReservationRow]:
    """Return what is or will be kept."""
    await policy.require(tx, actor, "reservation.read", "site")
    return await store.list_live_reservations(tx)


async def get_project(tx: Tx, name: str) -> Project:
    """Return a project; raises NotFound. For other domains."""
    share = await get_share(tx, name)
    if share.kind is not ShareKind.PROJECT:
        raise NotFound(f"{name} is no project but a {share.kind}", remedy="redoubt project list")
    return Project(name, share.parent, share.slot, share.user, share.archived)


async def get_share(tx: Tx, name: str) -> Share:
    """Return a share; raises NotFound. For other domains."""
    share = await find_share(tx, name)
    if share is None:
        raise _unknown(name)
    return share


async def find_share(tx: Tx, name: str) -> Share | None:
    """Return a share, None when there is none. For other domains."""
    return next((share for share in await list_all_shares(tx) if share.name == name), None)


async def list_all_shares(tx: Tx) -> list[Share]:
    """Return every share, archived ones too. For other domains; faces use list_shares."""
    rows = {row.name: row for row in await store.list_shares(tx)}
    parents = {row.name: row.parent or "" for row in rows.values()}
    return [_to_share(row, rules.chain_of(row.name, parents), rows) for row in rows.values()]


async def list_all_quotas(tx: Tx) -> list[Quota]:
    """Return every quota. For other domains."""
    return [Quota(row.share, row.gpu_type, row.guaranteed, row.most) for row in await store.list_quotas(tx)]


async def pool_terms(tx: Tx) -> list[PoolTerms]:
    """Return the terms of every pool. For other domains."""
    return [_to_terms(row) for row in await store.list_pools(tx)]


async def list_windows(tx: Tx) -> list[Window]:
    """Return the reservations that are or will be. For other domains."""
    return [
        Window(r.name, r.kind, r.starts_at, r.ends_at, tuple(r.nodes), r.node_count, tuple(r.accounts), tuple(r.chosen))
        for r in await store.list_live_reservations(tx)
    ]


async def mark_chosen(tx: Tx, chosen: Mapping[str, tuple[str, ...]]) -> None:
    """Keep which nodes the scheduler took for reservations that ask for a number. For other domains."""
    for row in await store.list_live_reservations(tx):
        if row.node_count and row.chosen != (taken := sorted(chosen.get(row.name, ()))):
            row.chosen = taken


async def classes_of_work(tx: Tx) -> tuple[Qos, ...]:
    """Return what a scheduler must know of pools. For other domains."""
    return rules.classes_of(await pool_terms(tx))


async def _check_parent(tx: Tx, kind: ShareKind, parent: str) -> None:
    wanted = rules.PARENTS[kind]
    if wanted is None:
        if parent:
            raise BadInput("an organisation is a part of the site alone", remedy="leave --in out")
        return
    found = await find_share(tx, parent) if parent else None
    if found is None or found.kind is not wanted or found.archived:
        raise NotFound(f"no {wanted} {parent or '(none given)'}", remedy=f"redoubt {wanted} list")


async def _next_slot(tx: Tx, slots: int) -> int:
    await store.lock_shares(tx)
    slot = rules.free_slot((row.slot for row in await store.list_shares(tx) if row.slot is not None), slots)
    if slot is None:
        raise Refused(
            f"all {slots} project slots are used, and a slot is never used again",
            remedy="raise project_slots in site.yml, then: redoubt site apply", code="no_slot",
        )  # fmt: skip
    return slot


async def _check_promises(tx: Tx, share: Share, quota: Quota) -> None:
    """Raise Refused when the parts of a share are promised more than the whole is."""
    promised = {(q.share, q.gpu_type): q for q in await list_all_quotas(tx)} | {(quota.share, quota.gpu_type): quota}
    shares = [s for s in await list_all_shares(tx) if not s.archived]
    for whole in (share.name, share.parent):
        own = promised.get((whole, quota.gpu_type))
        parts = [promised.get((s.name, quota.gpu_type)) for s in shares if s.parent == whole]
        total = sum(part.guaranteed for part in parts if part is not None)
        if own is not None and total > own.guaranteed:
            raise Refused(
                f"the parts of {whole} would be guaranteed {total} x {quota.gpu_type}, itself {own.guaranteed}",
                remedy=f"redoubt quota set {whole} {quota.gpu_type} --guaranteed {total} …, or guarantee less",
                code="promised_twice",
            )


async def _check_window(tx: Tx, window: Window) -> None:
    if bool(window.nodes) == bool(window.node_count):
        raise BadInput("a reservation names nodes, or how many", remedy="give --node NAME …, or --nodes N")
    if window.ends_at is not None and window.ends_at <= max(window.starts_at, tx.now):
        raise BadInput("the reservation ends before it begins, or is over", remedy="give a later --until")
    match window.kind:
        case "maintenance" if window.ends_at is None or not window.nodes:
            raise BadInput("maintenance is of named nodes and ends", remedy="give --node NAME … and --until")
        case "guaranteed" if not window.accounts:
            raise BadInput("nobody is guaranteed these nodes", remedy="give --account PROJECT")
        case _:
            pass
    for node in window.nodes:
        await fleet.find_declared(tx, name=node)
    for account in window.accounts:
        await get_share(tx, account)


def _to_share(row: ShareRow, chain: tuple[str, ...], rows: Mapping[str, ShareRow]) -> Share:
    kind = ShareKind(row.kind)
    project = next((name for name in chain if rows[name].kind == ShareKind.PROJECT), "")
    slot = rows[project].slot if project else None
    user = "" if not project else rules.user_of(slot)
    archived = any(rows[name].archived_at is not None for name in chain)
    keeps = any(rows[name].keeps_content for name in chain)
    return Share(row.name, kind, row.parent or "", chain, project, user, slot, row.weight, archived, keeps)


def _to_terms(row: PoolRow) -> PoolTerms:
    return PoolTerms(
        pool=Pool(row.name),
        max_gpus=tuple(sorted(row.max_gpus.items())),
        max_time_s=row.max_time_s,
        grace_s=row.grace_s,
        priority=row.priority,
        over_priority=row.over_priority,
        project_most=row.project_most,
    )


def _resource(share: Share) -> Resource:
    return Resource("share", share.name, project=share.project)


def _unknown(name: str) -> NotFound:
    return NotFound(f"no organisation, project or team {name}", remedy="redoubt project list")
