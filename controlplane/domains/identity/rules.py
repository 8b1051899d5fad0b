"""Decisions of identity: how long things live, and which roles go together."""

from collections.abc import Collection
from datetime import datetime, timedelta

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.types import CUSTODIANS, GRANTABLE

ENROLMENT_LIFETIME = timedelta(hours=1)
ACCESS_LIFETIME = timedelta(minutes=10)
IDLE_LIFETIME = timedelta(minutes=30)
SESSION_LIFETIME = timedelta(hours=8)
TOUCH_EVERY = timedelta(minutes=1)
TICKET_LIFETIME = timedelta(minutes=15)
BREAK_GLASS_LIFETIME = timedelta(minutes=60)
KEPT_AFTER = timedelta(days=1)


def first_role(roles: Collection[Role]) -> Role:
    """Return the role that names an actor of several, in the order of the enumeration."""
    return min(roles, key=list(Role).index)


def is_staff(roles: Collection[Role]) -> bool:
    """Say whether any role acts for the site and not for one tenant."""
    return any(role in GRANTABLE and role not in {Role.TENANT_ADMIN, Role.TENANT_USER} for role in roles)


def duty_conflict(held: Collection[Role], wanted: Role) -> Role | None:
    """Return a held role that excludes the wanted one; the database's own constraints say the same."""
    for role in held:
        if role != wanted and (Role.AUDITOR in {role, wanted} or {role, wanted} == CUSTODIANS):
            return role
    return None


def needs_touch(now: datetime, idle_expires_at: datetime) -> bool:
    """Say whether a browser's use should be written down: once a minute is enough for 30 minutes of idleness."""
    return idle_expires_at - now < IDLE_LIFETIME - TOUCH_EVERY


def are_custodians(holders: Collection[Collection[Role]]) -> bool:
    """Say whether two who hold these roles may open the break-glass: one from each office."""
    offices = [CUSTODIANS.intersection(roles) for roles in holders]
    return len(offices) == len(CUSTODIANS) and all(offices) and frozenset().union(*offices) == CUSTODIANS
