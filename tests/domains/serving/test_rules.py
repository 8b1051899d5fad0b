from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.serving.rules import OVERHEAD_BYTES, memory_per_gpu_bytes, plan_replicas
from controlplane.domains.serving.types import LIVE, ReplicaFact, ReplicaState

NOW = datetime(2026, 5, 1, tzinfo=UTC)

facts = st.lists(
    st.builds(
        ReplicaFact,
        id=st.uuids().map(str),
        revision_id=st.sampled_from(["new", "old"]),
        state=st.sampled_from(list(ReplicaState)),
        ended_at=st.just(NOW - timedelta(hours=2)),
    ),
    max_size=10,
)


@given(st.integers(0, 5), facts)
def test_a_plan_ends_at_the_desired_number_of_the_current_revision(desired: int, replicas: list[ReplicaFact]) -> None:
    plan = plan_replicas(desired, "new", replicas, NOW)
    kept = [r for r in replicas if r.state in LIVE and r.revision_id == "new" and r.id not in plan.drain]
    assert len(kept) + plan.add == desired


@given(st.integers(1, 5), facts)
def test_an_older_revision_serves_until_the_new_one_is_ready(desired: int, replicas: list[ReplicaFact]) -> None:
    plan = plan_replicas(desired, "new", replicas, NOW)
    ready = [r for r in replicas if r.revision_id == "new" and r.state == ReplicaState.READY]
    older = {r.id for r in replicas if r.state in LIVE and r.revision_id == "old"}
    assert (older <= set(plan.drain)) if len(ready) >= desired else not (older & set(plan.drain))


def test_surplus_replicas_that_are_not_ready_go_first() -> None:
    replicas = [
        ReplicaFact("a", "new", ReplicaState.READY, None),
        ReplicaFact("b", "new", ReplicaState.LOADING, None),
    ]
    assert plan_replicas(1, "new", replicas, NOW).drain == ("b",)


def test_every_failure_in_a_row_doubles_the_wait() -> None:
    def failed(count: int) -> list[ReplicaFact]:
        return [ReplicaFact(str(i), "new", ReplicaState.FAILED, NOW) for i in range(count)]

    def adds(count: int, after_s: float) -> int:
        return plan_replicas(1, "new", failed(count), NOW + timedelta(seconds=after_s)).add

    assert (adds(1, 1.9), adds(1, 2.1)) == (0, 1)
    assert (adds(3, 7.9), adds(3, 8.1)) == (0, 1)
    assert (adds(1000, 299), adds(1000, 301)) == (0, 1)


def test_failures_before_a_replica_that_served_for_a_minute_no_longer_count() -> None:
    failed = [ReplicaFact(str(i), "new", ReplicaState.FAILED, NOW - timedelta(minutes=5)) for i in range(6)]
    served = ReplicaFact("s", "new", ReplicaState.FAILED, NOW, NOW - timedelta(seconds=61))
    briefly = ReplicaFact("b", "new", ReplicaState.FAILED, NOW, NOW - timedelta(seconds=5))
    later = NOW + timedelta(seconds=2.1)
    assert plan_replicas(1, "new", [*failed, served], later).add == 1
    assert plan_replicas(1, "new", [*failed, briefly], later).add == 0


def test_weights_and_cache_are_split_over_the_gpus() -> None:
    assert memory_per_gpu_bytes(100, 10, 20, 4, 2) == 450 + OVERHEAD_BYTES
