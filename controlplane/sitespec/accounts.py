"""Accounts of a site and their numbers: fixed, for rules name a user by number before the account exists."""

from collections.abc import Iterator
from dataclasses import dataclass

MOST_SLOTS = 99
SLOT_PORTS = 100  # how many each slot has on every node
FIRST_SLOT_PORT = 24000


def slot_user(slot: int) -> str:
    """Return the account that jobs of the project in this slot run as."""
    return f"redoubt-p{slot:02d}"


def slot_ports(slot: int) -> tuple[int, int]:
    """Return the first and the last port that are this slot's own, the same on every node."""
    first = FIRST_SLOT_PORT + SLOT_PORTS * (slot - 1)
    return first, first + SLOT_PORTS - 1


# Debian gives out 100 upwards, 999 downwards and 1000 upwards by itself, and its packages take over an account only if
# its number is below 1000. slurm and _apt are Debian's own numbers.
UIDS = {
    "root": 0,
    "_apt": 42,
    "redoubt-serve": 2001,
    "redoubt-agent": 2002,
    "redoubt": 2003,
    "redoubt-gateway": 2004,
    "slurmrestd": 2005,
    "redoubt-slurm": 2006,
    "_chrony": 906,
    "postgres": 907,
    "slurm": 64030,
    **{slot_user(slot): 2100 + slot for slot in range(1, MOST_SLOTS + 1)},
}


@dataclass(frozen=True)
class Account:
    """One account that is made before anything is installed. `owns_home`: no unit and no package makes its home."""

    name: str
    home: str
    login: str | None = None
    owns_home: bool = False

    @property
    def uid(self) -> int:
        return UIDS[self.name]


def accounts_of(roles: frozenset[str], *, is_scheduler: bool, slots: range) -> Iterator[Account]:
    """Yield the accounts of a node with these roles; Debian's packages take over the ones that they know."""
    yield Account("redoubt-agent", "/var/lib/redoubt-agent")
    yield Account("_chrony", "/var/lib/chrony")
    if "slurm" in roles:  # one uid on every Slurm node, or a job would run as somebody else
        yield Account("redoubt-serve", "/var/lib/redoubt-serve", owns_home=True)
        yield Account("redoubt-slurm", "/nonexistent")
        yield from _slots(slots, has_homes="gpu_driver" in roles)
    if is_scheduler:
        yield Account("slurmrestd", "/nonexistent")
    if "control_plane" in roles:
        yield Account("redoubt", "/var/lib/redoubt")
    if "gateway" in roles:
        yield Account("redoubt-gateway", "/var/lib/redoubt-gateway")
    if "postgres" in roles:  # made before the package, because its key is made before the package
        yield Account("postgres", "/var/lib/postgresql", login="/bin/bash")


def _slots(slots: range, *, has_homes: bool) -> Iterator[Account]:
    """Yield one account for each project that the site may have: they exist before the projects do."""
    for slot in slots:
        yield Account(slot_user(slot), f"/var/lib/redoubt-projects/p{slot:02d}", owns_home=has_homes)
