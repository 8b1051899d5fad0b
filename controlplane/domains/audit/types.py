"""Who acts. It stands in the lowest domain because every record names its actor."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """Roles do not contain each other; people hold the first eight, processes and newcomers the rest."""

    PLATFORM_ADMIN = "platform-admin"
    SECURITY_ADMIN = "security-admin"
    OPERATOR = "operator"
    DATA_STEWARD = "data-steward"
    AUDITOR = "auditor"
    TENANT_ADMIN = "tenant-admin"
    TENANT_USER = "tenant-user"
    BREAK_GLASS = "break-glass"
    NODE = "node"
    GATEWAY = "gateway"
    RUN = "run"
    NEWCOMER = "newcomer"
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """`id` is a principal, a node's name or a replica, as `role` says; `role` is the first of `roles`.

    `project` is the tenant of a tenant's principal, "" for staff and machines; `session` the session or credential it
    came by; `method` how that was proved (`password+totp`, `passkey`, `certificate`, …); `source` the client's address;
    `strong_at` when it last showed a second factor.
    """

    id: str
    role: Role
    roles: frozenset[Role] = frozenset()
    project: str = ""
    session: str = ""
    method: str = ""
    source: str = ""
    strong_at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.roles:
            object.__setattr__(self, "roles", frozenset({self.role}))


SYSTEM = Actor("reconciler", Role.SYSTEM)
NEWCOMER = Actor("newcomer", Role.NEWCOMER)
