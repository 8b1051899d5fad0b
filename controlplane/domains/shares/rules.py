"""How shares hang together, what a project has on every node, and what a scheduler is told of classes of work."""

from collections.abc import Iterable, Mapping

from controlplane.domains.shares.types import BUILT_IN_PROJECT, Pool, PoolTerms, ShareKind
from controlplane.engines.scheduler import Qos

PARENTS = {ShareKind.ORGANISATION: None, ShareKind.PROJECT: ShareKind.ORGANISATION, ShareKind.TEAM: ShareKind.PROJECT}
RESERVED = frozenset({"root", "site"})  # the scheduler's own account, and the organisation that is built in
PLATFORM_USER = "redoubt-serve"
OVER = "-over"
HOLD = Qos("hold", priority=2000, requeues=False)
PREEMPTS = {
    Pool.INFERENCE: ("inference-over", "interactive-over", "training", "training-over"),
    Pool.INTERACTIVE: ("interactive-over", "training-over"),
    Pool.TRAINING: ("training-over", "interactive-over"),
}
PREEMPTIBLE = frozenset(name for names in PREEMPTS.values() for name in names)
COUNTED = {Pool.INFERENCE: 0, Pool.INTERACTIVE: 1000, Pool.TRAINING: 1000}  # what stands for weeks spoils no fair share
USED_POOLS = tuple(PREEMPTS)


def qos_of(pool: Pool, *, over_quota: bool) -> str:
    """Return the class of work of a pool, within its guarantee or beyond it."""
    return f"{pool}{OVER}" if over_quota else str(pool)


def may_preempt(qos: str, other: str) -> bool:
    """Say whether work of one class may take the GPUs of work of another."""
    return any(qos == pool and other in names for pool, names in PREEMPTS.items())


def free_slot(taken: Iterable[int], slots: int) -> int | None:
    """Return the smallest slot that no project ever had; None when all are used."""
    return min(set(range(1, slots + 1)) - set(taken), default=None)


def user_of(slot: int | None) -> str:
    """Return the POSIX user of a project's work, alike on every node; the platform's own has no slot."""
    return PLATFORM_USER if slot is None else f"redoubt-p{slot:02d}"


def chain_of(name: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return a share and what it is a part of, itself first."""
    chain = [name]
    while parents.get(chain[-1]):
        chain.append(parents[chain[-1]])
    return tuple(chain)


def may_see(project: str, chain: tuple[str, ...]) -> bool:
    """Say whether an actor of `project` sees a share: its own project's alone; staff has none and sees all."""
    return not project or project in chain


def bounded(project: str) -> bool:
    """Say whether quotas bound a project: all but the platform's own."""
    return project != BUILT_IN_PROJECT


def classes_of(terms: Iterable[PoolTerms]) -> tuple[Qos, ...]:
    """Return every class of work that a scheduler must know."""
    made = [HOLD]
    for pool in terms:
        if pool.pool in PREEMPTS:
            made += [_class_of(pool, over_quota=False), _class_of(pool, over_quota=True)]
    return tuple(sorted(made, key=lambda qos: qos.name))


def _class_of(terms: PoolTerms, *, over_quota: bool) -> Qos:
    return Qos(
        name=qos_of(terms.pool, over_quota=over_quota),
        priority=terms.over_priority if over_quota else terms.priority,
        preempts=() if over_quota else PREEMPTS[terms.pool],
        grace_s=terms.grace_s,
        requeues=terms.pool is Pool.TRAINING,
        gpus=terms.max_gpus,
        usage_permille=COUNTED[terms.pool],
    )
