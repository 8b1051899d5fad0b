"""What an endpoint needs next, and what fits a GPU."""

from datetime import datetime, timedelta

from controlplane.domains.fleet.types import NodeState, NodeView
from controlplane.domains.serving.types import LIVE, ReplicaFact, ReplicaPlan, ReplicaState

OVERHEAD_BYTES = 1 << 30  # CUDA context and activations; serving.md 3.2 measures 0.6 to 1.2 GiB
FIRST_HOLD = timedelta(seconds=2)
LONGEST_HOLD = timedelta(minutes=5)
FAILURE_MEMORY = timedelta(minutes=30)
PROVEN_AFTER = timedelta(seconds=60)
RENEW_AFTER = timedelta(days=6)  # of the seven that a job gets
AVOID_FOR = timedelta(minutes=10)


def memory_per_gpu_bytes(
    weights_bytes: int, kv_bytes_per_token: int, context_tokens: int, parallel: int, gpus: int
) -> int:
    """Return the bytes each of `gpus` must hold: weights and KV cache split evenly, plus a fixed overhead."""
    split = weights_bytes + kv_bytes_per_token * context_tokens * parallel
    return -(-split // gpus) + OVERHEAD_BYTES


def plan_replicas(desired: int, revision_id: str, replicas: list[ReplicaFact], now: datetime) -> ReplicaPlan:
    """Bring an endpoint to `desired` replicas of one revision; older ones drain once enough new ones are ready."""
    live = [r for r in replicas if r.state in LIVE]
    current = [r for r in live if r.revision_id == revision_id and not _is_aged(r, now)]
    older = [r for r in live if r not in current]
    ready = [r for r in current if r.state == ReplicaState.READY]
    surplus = sorted(current, key=lambda r: (r.state == ReplicaState.READY, r.id))[: max(0, len(current) - desired)]
    drain = [*surplus, *(older if len(ready) >= desired else [])]
    missing = max(0, desired - len(current))
    hold = _hold(replicas, revision_id, now) if missing else timedelta(0)
    if hold > timedelta(0):
        return ReplicaPlan(
            0, tuple(r.id for r in drain), f"failed lately; next try in {int(hold.total_seconds()) + 1} s"
        )
    return ReplicaPlan(missing, tuple(r.id for r in drain))


def is_doubtful(node: NodeView, lost_at: datetime | None) -> bool:
    """Say whether a new replica should keep off a node: it is silent, or has said nothing since it lost one."""
    if node.state == NodeState.SILENT:
        return True
    return lost_at is not None and (node.last_report_at is None or node.last_report_at <= lost_at)


def _is_aged(replica: ReplicaFact, now: datetime) -> bool:
    """Say whether a replica nears the end of its job's time, so that another must be ready before."""
    return replica.ready_at is not None and now - replica.ready_at > RENEW_AFTER


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
