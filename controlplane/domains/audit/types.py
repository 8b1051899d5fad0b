"""Who acts. It stands in the lowest domain because every record names its actor."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Roles do not contain each other; `system` is the reconciler and no person."""

    PLATFORM_ADMIN = "platform-admin"
    NODE = "node"
    GATEWAY = "gateway"
    RUN = "run"
    NEWCOMER = "newcomer"
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """`id` is a principal, a node's name or a replica, as `role` says."""

    id: str
    role: Role


SYSTEM = Actor("reconciler", Role.SYSTEM)
NEWCOMER = Actor("newcomer", Role.NEWCOMER)
