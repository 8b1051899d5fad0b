"""What several processes with a database wire alike."""

import socket
from importlib.resources import files
from pathlib import Path

from controlplane.domains import factors as factors_package
from controlplane.domains.factors.service import Means
from controlplane.kit.clock import SystemClock
from controlplane.kit.password_hash import BoundedHasher, HashCost
from controlplane.kit.sealed import load_sealer
from controlplane.kit.tx import Database
from controlplane.main.leaves import Leaves
from controlplane.main.settings import ApiSettings
from controlplane.main.settings import Database as DatabaseSettings

ASIDE_POOL = 2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def open_database(settings: DatabaseSettings, leaves: Leaves | None = None) -> Database:
    """Return the database; a process that lives long gives `leaves` and looks at them."""
    tls = None if settings.tls is None else (leaves or Leaves()).asking(settings.tls)
    return Database(settings.url, SystemClock(), tls=tls, pool=settings.pool, facts=machine_facts())


def machine_facts() -> dict[str, object]:
    """Return what every audit event says of the machine that wrote it."""
    return {"node": socket.gethostname().partition(".")[0], "boot_id": BOOT_ID.read_text().strip()}


def open_means(settings: ApiSettings, leaves: Leaves | None = None) -> Means:
    """Return what people's factors are checked with; `aside` is the caller's to close."""
    cost = settings.factors
    return Means(
        aside=open_database(settings.database.model_copy(update={"pool": ASIDE_POOL}), leaves),
        hasher=BoundedHasher(HashCost(cost.memory_kib, cost.passes, cost.lanes)),
        sealer=load_sealer(cost.key),
        site=settings.site,
        origin=settings.origin,
        common_passwords=common_passwords(),
    )


def common_passwords() -> frozenset[str]:
    """Read the list that ships with the package; its first lines say where it is from."""
    lines = files(factors_package).joinpath("common_passwords.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))
