"""Fleets as placement sees them, and strategies that make small ones."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import strategies as st

from controlplane.domains.allocation.rules import quota
from controlplane.domains.allocation.rules.placement import Look
from controlplane.domains.allocation.types import Ask, Claim, GpuRoom, LeaseFact, NodeRoom
from controlplane.domains.shares import rules as shares
from controlplane.domains.shares.types import Pool, PoolTerms, Quota, Window

NOW = datetime(2026, 11, 27, tzinfo=UTC)
GIB = 1024**3
CHAINS = {
    "redoubt": ("redoubt", "site"),
    "blue": ("blue", "org"),
    "red": ("red", "org"),
    "crew": ("crew", "blue", "org"),
}
claimants = st.sampled_from(sorted(CHAINS))
pools = st.sampled_from(shares.USED_POOLS)
PROJECTS = {"redoubt": "redoubt", "blue": "blue", "red": "red", "crew": "blue"}


def make_terms(pool: Pool = Pool.TRAINING, **changes: object) -> PoolTerms:
    given: dict[str, object] = {
        "pool": pool, "max_gpus": (), "max_time_s": 7 * 86400, "grace_s": 30, "priority": 4, "over_priority": 2,
        "project_most": None,
    }  # fmt: skip
    return PoolTerms(**(given | changes))  # type: ignore[arg-type]  # a test names the fields it changes


def make_lease(
    owner: str, *, share: str = "blue", pool: Pool = Pool.TRAINING, over: bool = False, **changes: object
) -> LeaseFact:
    qos = shares.qos_of(pool, over_quota=over)
    given: dict[str, object] = {
        "id": f"lease_{owner}", "owner": owner, "share": share, "project": PROJECTS.get(share, share), "pool": pool,
        "qos": qos, "preemptible": qos in shares.PREEMPTIBLE, "over_quota": over, "gpu_type": "h100", "node": "gpu1",
        "count": 1, "granted_at": NOW,
    }  # fmt: skip
    return LeaseFact(**(given | changes))  # type: ignore[arg-type]  # a test names the fields it changes


def make_room(
    node: str, gpus: Sequence[GpuRoom] | int, *, kind: str = "h100", memory: int = 80 * GIB, promised: int = 0,
    zone: str = "north", reason: str = "", windows: tuple[Window, ...] = (),
) -> NodeRoom:  # fmt: skip
    """Return a node of these GPUs, or of so many free ones."""
    cards = tuple(GpuRoom(f"{node}-{i}", "") for i in range(gpus)) if isinstance(gpus, int) else tuple(gpus)
    free = [gpu for gpu in cards if not gpu.reason and gpu.lease is None]
    whole, left = Counter(gpu.island for gpu in cards), Counter(gpu.island for gpu in free)
    return NodeRoom(
        node=node, zone=zone, type=kind, memory_bytes=memory, gpus=cards, free=max(0, len(free) - promised),
        owed=max(0, promised - len(free)), sound=sum(not gpu.reason for gpu in cards),
        islands=tuple((left[name], count) for name, count in whole.items()), reason=reason, windows=windows,
    )  # fmt: skip


def make_claim(
    share: str = "redoubt", pool: Pool = Pool.TRAINING, *, quotas: Sequence[Quota] = (),
    leases: Sequence[LeaseFact] = (), yields: bool = False, terms: PoolTerms | None = None,
) -> Claim:  # fmt: skip
    used = quota.count_used(leases, CHAINS)
    known = {(one.share, one.gpu_type): one for one in quotas}
    return Claim(CHAINS[share], PROJECTS[share], terms or make_terms(pool), known, used, yields)


def look(ask: Ask, claim: Claim, rooms: Sequence[NodeRoom], now: datetime = NOW) -> Look:
    return Look.at(ask, claim, rooms, now)


def leases_of(rooms: Sequence[NodeRoom]) -> list[LeaseFact]:
    return list({gpu.lease.id: gpu.lease for room in rooms for gpu in room.gpus if gpu.lease}.values())


@st.composite
def fleets(draw: st.DrawFn) -> list[NodeRoom]:
    """Make a few nodes whose GPUs are free, faulty, or leased in pieces to work of all classes."""
    rooms = []
    for number in range(draw(st.integers(0, 5))):
        node, kind = f"gpu{number}", draw(st.sampled_from(["h100", "a100"]))
        cards: list[GpuRoom] = []
        while len(cards) < draw(st.sampled_from([2, 4, 8])):
            cards += draw(_cards(node, kind, len(cards)))
        reason = draw(st.sampled_from(["", "", "", "silent: no report for 20 s"]))
        zone = draw(st.sampled_from(["north", "south"]))
        memory = draw(st.sampled_from([40, 80])) * GIB
        rooms.append(
            make_room(node, cards, kind=kind, memory=memory, zone=zone, reason=reason, promised=draw(st.integers(0, 2)))
        )
    return rooms


@st.composite
def _cards(draw: st.DrawFn, node: str, kind: str, first: int) -> list[GpuRoom]:
    count, island = draw(st.integers(1, 3)), draw(st.sampled_from(["", "i0", "i1"]))
    what = draw(st.sampled_from(["free", "free", "faulty", "leased"]))
    lease = None
    if what == "leased":
        lease = make_lease(
            f"{node}-{first}", share=draw(claimants), pool=draw(pools), over=draw(st.booleans()), node=node,
            gpu_type=kind, count=count,
        )  # fmt: skip
    reason = "does not answer its driver" if what == "faulty" else ""
    return [GpuRoom(f"{node}-{first + i}", island, reason, lease) for i in range(count)]


asks = st.builds(
    Ask,
    count=st.integers(1, 8),
    type=st.sampled_from(["", "h100", "a100", "b200"]),
    memory_bytes=st.sampled_from([0, 40 * GIB, 80 * GIB, 141 * GIB]),
    zone=st.sampled_from(["", "north", "south", "east"]),
)
quotas = st.lists(
    st.tuples(
        st.sampled_from(["org", "blue", "red", "crew"]),
        st.sampled_from(["h100", "a100"]),
        st.integers(0, 4),
        st.integers(0, 8),
    ).map(lambda given: Quota(given[0], given[1], min(given[2], given[3]), given[3])),
    unique_by=lambda one: (one.share, one.gpu_type),
    max_size=8,
)
