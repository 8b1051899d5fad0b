"""How long a guesser waits: twice as long after each wrong guess, a quarter of an hour at most, never for good."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from controlplane.domains.factors.types import Claim
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.source import group

LONGEST = timedelta(minutes=15)


@dataclass(frozen=True)
class Limits:
    """`free` wrong guesses cost nothing; `kept` is how long they are remembered after the last."""

    free: int
    kept: timedelta


ACCOUNT = Limits(free=3, kept=timedelta(days=1))
SOURCE = Limits(free=20, kept=timedelta(hours=1))  # many people may share one address


@dataclass(frozen=True)
class Count:
    """Guesses at one account or from one source that were not right, or are being checked."""

    failures: int
    last_at: datetime
    blocked_until: datetime


def subjects_of(claim: Claim) -> dict[str, Limits]:
    """Return what a guess counts for: the account, if one is named, and where it came from."""
    source = {f"source:{group(claim.source)}": SOURCE}
    return source | {account_of(claim): ACCOUNT} if claim.principal_id or claim.name else source


def account_of(claim: Claim) -> str:
    """Return a name for the count; one that nobody has is counted too, and says nothing when it is read."""
    return f"account:{claim.principal_id or sha256_hex(claim.name.casefold().encode())}"


def unused(now: datetime) -> Count:
    return Count(0, now, now)


def delay(failures: int, limits: Limits) -> timedelta:
    """Return how long the next guess waits after this many wrong ones: 0, then 2, 4, 8 … 900 seconds."""
    over = failures - limits.free
    if over <= 0:
        return timedelta(0)
    return min(LONGEST, timedelta(seconds=2 ** min(over, 30)))


def wait_s(count: Count, now: datetime) -> int:
    """Return whole seconds to wait, 0 for none. A block longer than the longest is a clock that was set back: void."""
    left = count.blocked_until - now
    return ceil(left.total_seconds()) if timedelta(0) < left <= LONGEST else 0


def charged(count: Count, now: datetime, limits: Limits) -> Count:
    """Count a guess before it is checked: so six at a time are six, and a killed process forgives nothing."""
    remembered = count.failures if abs(now - count.last_at) <= limits.kept else 0
    failures = remembered + 1
    return Count(failures, now, now + delay(failures, limits))


def forgiven(count: Count, charge: Count, now: datetime) -> Count:
    """Take one right guess off. Its block ends, unless somebody else's guess has set a later one."""
    fewer = replace(count, failures=max(0, count.failures - 1))
    return replace(fewer, blocked_until=now) if count.blocked_until == charge.blocked_until else fewer
