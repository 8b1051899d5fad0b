"""When a leaf is renewed, when somebody must look, and what a lapsed one is still good for."""

from datetime import datetime, timedelta

from controlplane.domains.pki.types import Kind, PresentLeaf, Standing
from controlplane.kit.issuing import Usage

SKEW = timedelta(minutes=5)  # between two clocks of a site; more is a fault that the time source must mend
JOIN_TOKEN_LIFETIME = timedelta(hours=1)
SPREAD = 0.05  # of a life: a thousand nodes installed in one minute do not renew in one minute
LOOK_AT_MOST_S = 60.0
# What a machine may have renewed over the machine API. Other leaves are the api's own or the play's.
RENEWED = {(Kind.SERVICE, "gateway"): frozenset({Usage.CLIENT})}
OF_NODE = frozenset({Usage.CLIENT})


def usages_of(kind: Kind, name: str) -> frozenset[Usage] | None:
    """Return what a renewed leaf of this identity is for; None for identities that are not renewed this way."""
    return OF_NODE if kind == Kind.NODE else RENEWED.get((kind, name))


def life(not_before: datetime, not_after: datetime) -> timedelta:
    return not_after - not_before


def renew_at(not_before: datetime, not_after: datetime, serial: str) -> datetime:
    """Return when to ask for the successor: at half-life, spread over a twentieth of the life by the serial."""
    return not_before + life(not_before, not_after) * (0.5 + SPREAD * spread_of(serial))


def spread_of(serial: str) -> float:
    """Return a number in [0, 1) that is the same for the same serial; serials are random."""
    return (int(serial, 16) % 4096) / 4096


def alarm_at(not_before: datetime, not_after: datetime) -> datetime:
    """Return when a person must look: a quarter of the life is left, after half a life of failed renewals."""
    return not_after - life(not_before, not_after) / 4


def may_renew(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """Say whether a leaf is old enough to have a successor: a machine may not collect leaves."""
    return now >= not_before + life(not_before, not_after) / 4


def look_every_s(not_before: datetime, not_after: datetime) -> float:
    """Return the pause between two looks at a leaf: at least fifty fall into the quarter before the alarm."""
    return min(LOOK_AT_MOST_S, life(not_before, not_after).total_seconds() / 200)


def standing(not_before: datetime, not_after: datetime, now: datetime, grace: timedelta) -> Standing:
    """Judge a leaf by this clock; a peer's clock may be SKEW behind ours."""
    if now < not_before - SKEW:
        return Standing.EARLY
    if now <= not_after:
        return Standing.VALID
    return Standing.LAPSED if now <= not_after + grace else Standing.OVER


def is_refused(leaf_not_before: datetime, lifted_at: datetime | None) -> bool:
    """Say whether a revocation of the node covers a leaf: one that was lifted still covers the leaves before it."""
    return lifted_at is None or leaf_not_before < lifted_at


def belongs_to(kind: Kind, name: str, dns: tuple[str, ...]) -> str:
    """Return the machine that a leaf belongs to: the node it names, or the first DNS name of a service's leaf."""
    return name if kind == Kind.NODE else next(iter(dns), "")


def names_itself(leaf: PresentLeaf, common_name: str) -> bool:
    """Say whether a request's subject is empty or the holder's own name."""
    return common_name in ("", leaf.name)
