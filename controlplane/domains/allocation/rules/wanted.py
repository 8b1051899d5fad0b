"""What a scheduler ought to know of this site."""

from collections.abc import Iterable, Mapping, Sequence

from controlplane.domains.allocation.types import Site
from controlplane.domains.shares import rules as shares
from controlplane.domains.shares.types import Share, ShareKind, Window
from controlplane.engines.scheduler import Account, Qos, Reservation, ReservationKind, SchedulerState


def to_state(site: Site, classes: tuple[Qos, ...], windows: Iterable[Window]) -> SchedulerState:
    """Return shares with their users and limits, parents first, classes of work and reservations.

    What is archived stays known as long as work of it runs.
    """
    working = {name for lease in site.leases if lease.share in site.shares for name in site.shares[lease.share].chain}
    known = [share for share in site.shares.values() if not share.archived or share.name in working]
    types = sorted({room.type for room in site.rooms} | {gpu_type for _, gpu_type in site.quotas})
    limits: dict[str, dict[str, int]] = {}
    for (name, gpu_type), quota in site.quotas.items():
        limits.setdefault(name, {})[gpu_type] = quota.most
    return SchedulerState(
        accounts=tuple(
            _account(share, types, limits.get(share.name, {})) for share in sorted(known, key=lambda s: len(s.chain))
        ),
        qos=classes,
        reservations=tuple(
            Reservation(w.name, ReservationKind(w.kind), w.starts_at, w.ends_at, w.nodes, w.node_count, w.accounts)
            for w in windows
        ),
    )


def _account(share: Share, types: Sequence[str], most: Mapping[str, int]) -> Account:
    """Bound a project in every type that the site has: what it has no quota of, it may use none of."""
    closed = share.kind is ShareKind.PROJECT and shares.bounded(share.project)
    none = dict.fromkeys(types, 0)
    gpus = none if share.archived else {**(none if closed else {}), **most}
    users = (
        tuple(dict.fromkeys((share.user, shares.PLATFORM_USER))) if share.user else ()
    )  # endpoints run as the latter
    return Account(share.name, share.parent, users, tuple(sorted(gpus.items())), share.weight)
