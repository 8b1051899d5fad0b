"""Who asks and how it runs: from an ask to a claim, and from a placement to what the engine is told."""

from collections.abc import Sequence

from controlplane.domains.allocation.rules import placement, quota
from controlplane.domains.allocation.rules.placement import Look
from controlplane.domains.allocation.types import Admission, Ask, Claim, NodeRoom, Placement, Site
from controlplane.domains.shares import rules as shares
from controlplane.domains.shares.types import Pool, Share
from controlplane.kit.errors import BadInput


def claim_of(
    site: Site, share: Share, pool: Pool, *, yields: bool = False, firm: bool = False, tells: str = ""
) -> Claim:
    """Return for whom is asked; raises BadInput for the pool in which nobody runs."""
    if pool is Pool.SPARE:
        raise BadInput("nobody runs in pool spare: it stands in for lost nodes", remedy="choose another pool")
    used = quota.count_used(site.leases, {one.name: one.chain for one in site.shares.values()})
    return Claim(share.chain, share.project, site.terms[pool], site.quotas, used, yields, firm, tells)


def admission(look: Look, share: Share, rooms: Sequence[NodeRoom], placed: Placement | None) -> Admission:
    """Return how work runs that fits, or that waits until it does."""
    pool = look.claim.terms.pool
    kind = placed.gpu_type if placed else placement.type_of_waiting(look, rooms)
    over = placed.over_quota if placed else quota.is_beyond(look.claim, kind, look.ask.count)
    qos = shares.qos_of(pool, over_quota=over)
    usable = placement.usable(look, rooms, kind)
    longest = max((placement.time_limit_s(look, room) for room in usable), default=look.claim.terms.max_time_s)
    names = {room.node for room in usable}
    return Admission(
        share=share.name,
        pool=pool,
        account=share.name,
        partition=str(pool),
        qos=qos,
        user=share.user,
        over_quota=over,
        preemptible=qos in shares.PREEMPTIBLE,
        avoid_nodes=tuple(dict.fromkeys(room.node for room in rooms if room.declared and room.node not in names)),
        time_limit_s=(placed.time_limit_s if placed else 0) or longest,
        placement=placed,
        gpu_type=kind,
    )


def words_of(ask: Ask) -> str:
    """Say what was asked."""
    memory = f" with {ask.memory_bytes / placement.GIB:.1f} GiB" if ask.memory_bytes else ""
    zone = f" in zone {ask.zone}" if ask.zone else ""
    return f"{ask.count} x {ask.type or 'any GPU'}{memory}{zone}"
