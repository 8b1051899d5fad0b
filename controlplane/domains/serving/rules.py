"""What an endpoint needs next, and what fits a GPU."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import digest as hmac_digest

from controlplane.contracts.snapshot import SnapshotShare, Surface
from controlplane.domains.fleet.types import NodeState, NodeView, Zone
from controlplane.domains.pki.types import Refusal
from controlplane.domains.policy.types import SECRET
from controlplane.domains.serving.types import LIVE, ReplicaFact, ReplicaPlan, ReplicaState
from controlplane.domains.shares.types import Share, ShareKind

SALT_DIGITS = 32  # 128 bits
_COMPLETES: tuple[Surface, ...] = ("chat", "completions", "responses", "tokenize", "messages", "count_tokens")
SURFACES: dict[str, tuple[Surface, ...]] = {
    "llama_cpp": _COMPLETES,
    "embed": ("embeddings", "tokenize"),
    "rerank": ("rerank", "score", "tokenize"),
}
OVERHEAD_BYTES = 1 << 30  # CUDA context and activations; serving.md 3.2 measures 0.6 to 1.2 GiB
FIRST_HOLD = timedelta(seconds=2)
LONGEST_HOLD = timedelta(minutes=5)
FAILURE_MEMORY = timedelta(minutes=30)
PROVEN_AFTER = timedelta(seconds=60)
RENEW_AFTER = 6 / 7  # of the time that its job gets; each of several a little sooner than the next
STAGGER = 1 / 14
LOADS_WITHIN = timedelta(minutes=30)
STALE_AFTER = timedelta(minutes=4)  # less than what allocation leaves between the end of work and a reservation
AVOID_FOR = timedelta(minutes=10)
QUEUES_FOR = timedelta(hours=1)  # a lease outlives its run's limit by this while the run waits in the engine
ENDS_LATE = timedelta(minutes=15)  # between a run's limit and the moment when no process of it can be left


def memory_per_gpu_bytes(
    weights_bytes: int, kv_bytes_per_token: int, context_tokens: int, parallel: int, gpus: int
) -> int:
    """Return the bytes each of `gpus` must hold: weights and KV cache split evenly, plus a fixed overhead."""
    split = weights_bytes + kv_bytes_per_token * context_tokens * parallel
    return -(-split // gpus) + OVERHEAD_BYTES


def plan_replicas(
    desired: int, revision_id: str, replicas: list[ReplicaFact], now: datetime, floor: int | None = None
) -> ReplicaPlan:
    """Bring an endpoint to `desired` replicas of one revision; older ones drain once enough new ones are ready.

    Of too many those above the floor go first; of too few within it those above it are replaced.
    """
    live = [r for r in replicas if r.state in LIVE]
    current = [r for r in live if r.revision_id == revision_id and not _is_aged(r, now)]
    current = current if floor is None else _firm_first(current, min(floor, desired))
    kept = {r.id for r in current}
    older = [r for r in live if r.id not in kept]
    ready = [r for r in current if r.state == ReplicaState.READY]
    surplus = sorted(current, key=_goes_first)[: max(0, len(current) - desired)]
    drain = [*surplus, *(older if len(ready) >= desired else [])]
    missing = max(0, desired - len(current))
    hold = _hold(replicas, revision_id, now) if missing else timedelta(0)
    if hold > timedelta(0):
        return ReplicaPlan(
            0, tuple(r.id for r in drain), f"failed lately; next try in {int(hold.total_seconds()) + 1} s"
        )
    return ReplicaPlan(missing, tuple(r.id for r in drain))


def is_above_floor(floor: int | None, revision_id: str, replicas: list[ReplicaFact], now: datetime) -> bool:
    """Say whether the next replica to be let in is above the floor: enough of its revision are within it already."""
    if floor is None:
        return False
    held = [r for r in replicas if r.state in LIVE and r.state != ReplicaState.WANTED and not r.yields]
    return sum(r.revision_id == revision_id and not _is_aged(r, now) for r in held) >= floor


def beyond_guarantee(endpoint: str, project: str) -> str:
    """Say why a replica that nobody may preempt does not start."""
    return (
        f"waits for GPUs: the floor of {endpoint} is beyond what {project} is guaranteed. Raise --guaranteed of "
        f"redoubt quota set {project}, or let replicas be preempted: redoubt endpoint scale {endpoint} … --floor 0"
    )


def _goes_first(replica: ReplicaFact) -> tuple[bool, bool, str]:
    return not replica.yields and replica.state == ReplicaState.READY, replica.state == ReplicaState.READY, replica.id


def _firm_first(current: list[ReplicaFact], floor: int) -> list[ReplicaFact]:
    """Leave out as many replicas above the floor as are missing within it, so that others take their place."""
    known = [r for r in current if r.state != ReplicaState.WANTED]
    short = floor - sum(not r.yields for r in known) - (len(current) - len(known))
    replaced = [r.id for r in known if r.yields][: max(0, short)]
    return [r for r in current if r.id not in replaced]


def lease_ends_at(now: datetime, time_limit_s: int, *, waits: bool) -> datetime:
    """Return until when a run may hold GPUs: no engine lets it go on beyond its limit, counted from its start."""
    return now + timedelta(seconds=time_limit_s) + ENDS_LATE + (QUEUES_FOR if waits else timedelta(0))


def is_due(expires_at: datetime | None, now: datetime, time_limit_s: int) -> bool:
    """Say whether the lease of a run that still waits would not last for all of its run."""
    return expires_at is not None and expires_at < lease_ends_at(now, time_limit_s, waits=True) - QUEUES_FOR / 2


def was_preempted(reason: str) -> bool:
    """Say whether an engine's words mean that a run made room for another: no fault of its own."""
    return "preempted" in reason.lower()


def is_stale(expires_at: datetime | None, now: datetime, time_limit_s: int) -> bool:
    """Say whether a run whose time was cut before a reservation waits so long that it no longer fits before it."""
    return expires_at is not None and now - (expires_at - timedelta(seconds=time_limit_s) - ENDS_LATE - QUEUES_FOR) > (
        STALE_AFTER
    )


def is_doubtful(node: NodeView, lost_at: datetime | None) -> bool:
    """Say whether a new replica should keep off a node: it is silent, or has said nothing since it lost one."""
    if node.state == NodeState.SILENT:
        return True
    return lost_at is not None and (node.last_report_at is None or node.last_report_at <= lost_at)


def _is_aged(replica: ReplicaFact, now: datetime) -> bool:
    """Say whether a replica nears the end of its job's time, so that another must be ready before.

    Its job ends at its limit, counted from its start, or when maintenance begins if that is sooner.
    """
    since = replica.started_at or replica.ready_at
    if replica.ready_at is None or since is None:
        return False
    limit = timedelta(seconds=replica.time_limit_s)
    if replica.closes_at is not None:
        limit = min(limit, max(replica.closes_at - since, timedelta(0)))
    sooner = STAGGER * (sha256(replica.id.encode()).digest()[0] / 256)
    return now - since > max(limit / 2, min(limit * (RENEW_AFTER - sooner), limit - LOADS_WITHIN))


def _hold(replicas: list[ReplicaFact], revision_id: str, now: datetime) -> timedelta:
    """Wait 2 s after a failure, twice as long after each further one, five minutes at the most.

    A replica that served for a minute proves the revision: what failed before it no longer counts.
    """
    mine = [r for r in replicas if r.revision_id == revision_id]
    proven_at = max((proof for r in mine if (proof := _proof(r, now))), default=now - FAILURE_MEMORY)
    ends = [r.ended_at for r in mine if r.state == ReplicaState.FAILED and r.ended_at and r.ended_at >= proven_at]
    if not ends:
        return timedelta(0)
    pause = min(FIRST_HOLD * (1 << min(len(ends) - 1, 16)), LONGEST_HOLD)
    return max(timedelta(0), max(ends) + pause - now)


def _proof(replica: ReplicaFact, now: datetime) -> datetime | None:
    """Return when a replica had served long enough to prove its revision."""
    if replica.ready_at is None:
        return None
    proof = replica.ready_at + PROVEN_AFTER
    return proof if proof <= (replica.ended_at or now) else None


def put_out(refusals: Iterable[Refusal]) -> frozenset[str]:
    """Return the nodes that were revoked for good: what they answer, nobody may hear."""
    return frozenset(refusal.node for refusal in refusals if refusal.before is None)


@dataclass(frozen=True)
class Places:
    """The zones of a site. One whose site spec was not declared, as on the box, is a single place without a border."""

    zones: Mapping[str, Zone]
    is_declared: bool

    def find(self, zone: str) -> Zone:
        """Return a zone; where a site declares zones, one that is not among them is good for public data alone."""
        unknown = Zone(zone, "", 0 if self.is_declared else SECRET)
        return self.zones.get(zone, unknown)


def to_snapshot_share(name: str, share: Share | None, secret: bytes) -> SnapshotShare:
    """Return what a gateway must know of a share. The parts of one project have one salt, nobody else has it."""
    chain = share.chain if share is not None else ()
    project = (share.project if share is not None else "") or name
    return SnapshotShare(
        name=name,
        organisation=chain[-1] if chain else "",
        project=project if share is None or share.kind is not ShareKind.ORGANISATION else "",
        team=name if share is not None and share.kind is ShareKind.TEAM else "",
        weight=share.weight if share is not None else 1,
        salt=hmac_digest(secret, project.encode(), "sha256").hex()[:SALT_DIGITS],
        keeps_content=share is not None and share.keeps_content and not share.archived,
    )
