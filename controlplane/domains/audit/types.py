"""Who acts. It stands in the lowest domain because every record names its actor."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controlplane.kit.errors import Unavailable


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


@dataclass(frozen=True)
class Personal:
    """A detail that tells who a person is: it goes to the side record, which can be erased, and never into the log."""

    value: str


class Unrecorded(Unavailable):
    """An event could not be kept in both places, so what it tells of did not happen. Why is in the log alone."""

    def __init__(self) -> None:
        super().__init__(
            "what happens here cannot be recorded now, so nothing happens",
            remedy="look at the log of the process for audit.refused; then try again",
            code="unrecorded",
        )


class BehindItsWitnesses(Unavailable):
    """The database knows less than what was seen of it before: it was rolled back, or it is another's."""
