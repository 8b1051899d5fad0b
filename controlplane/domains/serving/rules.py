"""What an endpoint needs next, and what fits a GPU."""

from datetime import datetime, timedelta

from controlplane.domains.serving.types import LIVE, ReplicaFact, ReplicaPlan, ReplicaState

OVERHEAD_BYTES = 1 << 30  # CUDA context and activations; serving.md 3.2 measures 0.6 to 1.2 GiB
FIRST_HOLD = timedelta(seconds=2)
LONGEST_HOLD = timedelta(minutes=5)
FAILURE_MEMORY = timedelta(minutes=30)
AVOID_FOR = timedelta(seconds=60)


def memory_per_gpu_bytes(
    weights_bytes: int, kv_bytes_per_token: int, context_tokens: int, parallel: int, gpus: int
) -> int:
    """Return the bytes each of `gpus` must hold: weights and KV cache split evenly, plus a fixed overhead."""
    split = weights_bytes + kv_bytes_per_token * context_tokens * parallel
    return -(-split // gpus) + OVERHEAD_BYTES


def plan_replicas(desired: int, revision_id: str, replicas: list[ReplicaFact], now: datetime) -> ReplicaPlan:
    """Bring an endpoint to `desired` replicas of one revision; older ones drain once enough new ones are ready."""
    current = [r for r in replicas if r.state in LIVE and r.revision_id == revision_id]
    older = [r for r in replicas if r.state in LIVE and r.revision_id != revision_id]
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


def _hold(replicas: list[ReplicaFact], revision_id: str, now: datetime) -> timedelta:
    """Wait 2 s after the first failure, twice as long after each further one, five minutes at the most."""
    ends = [
        r.ended_at
        for r in replicas
        if r.state == ReplicaState.FAILED
        and r.revision_id == revision_id
        and r.ended_at
        and now - r.ended_at < FAILURE_MEMORY
    ]
    if not ends:
        return timedelta(0)
    pause = min(FIRST_HOLD * (1 << min(len(ends) - 1, 16)), LONGEST_HOLD)
    return max(timedelta(0), max(ends) + pause - now)
