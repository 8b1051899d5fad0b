"""How long a key lives and which of its two secrets counts."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import ip_network

LONGEST = timedelta(days=365)
USE_COUNTS_AFTER = timedelta(minutes=1)  # "last used" is coarse: a busy key must not cost a write for every request
SLOTS = (1, 2)


def is_live(now: datetime, expires_at: datetime, ended_at: datetime | None) -> bool:
    """Say whether a secret counts now."""
    return ended_at is None and now < expires_at


def free_slot(taken: Iterable[int]) -> int | None:
    """Return the slot of a further secret, None when two live ones are there already."""
    return next(iter(sorted(set(SLOTS) - set(taken))), None)


def canonical_sources(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the networks in one spelling, sorted. Raises ValueError for what is no network or has host bits set."""
    return tuple(str(network) for network in sorted({ip_network(source) for source in sources}, key=str))


def may_see(project: str, *, of: str) -> bool:
    """Say whether an actor of `project` sees keys of the other one; staff has no project and sees all."""
    return project in ("", of)
