"""What factors are checked with in tests: the same code, at a cost that a test can bear."""

from controlplane.domains.factors.service import Means
from controlplane.kit.clock import Clock
from controlplane.kit.password_hash import BoundedHasher, HashCost
from controlplane.kit.sealed import Sealer
from controlplane.kit.tx import Database
from controlplane.main.wiring import common_passwords

ORIGIN = "https://console.testsite.example:8443"
CHEAP = HashCost(memory_kib=8, passes=1)


def make_means(database_url: str, clock: Clock, *, origin: str = ORIGIN, cost: HashCost = CHEAP) -> Means:
    return Means(
        aside=Database(database_url, clock, pool=2),
        hasher=BoundedHasher(cost),
        sealer=Sealer(b"k" * 32),
        site="testsite",
        origin=origin,
        common_passwords=common_passwords(),
    )
