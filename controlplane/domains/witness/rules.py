"""When a witness counts."""

from collections.abc import Iterable
from datetime import timedelta

from controlplane.domains.witness.types import Quorum, Standing

FRESH_WITHIN = timedelta(seconds=90)  # a checkpoint is made every 10 s and asked for every 10 s


def quorum(standings: Iterable[Standing], due_size: int) -> Quorum:
    """Judge all declared nodes; `due_size` is the newest checkpoint that was there long enough, 0 for none."""
    found = tuple(sorted(standings, key=lambda one: one.node))
    fresh = frozenset(one.node for one in found if due_size and one.size >= due_size and not one.refusal)
    return Quorum(found, fresh, is_due=due_size > 0)
