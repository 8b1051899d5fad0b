"""A log that a test fills, seals and reads."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import Sealer
from controlplane.domains.audit.types import SYSTEM
from controlplane.kit.note import Checkpoint
from controlplane.kit.paging import Page
from tests.support.control_plane import SITE, ControlPlane

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@dataclass
class Log:
    plane: ControlPlane
    sealer: Sealer
    key: Ed25519PrivateKey | None = KEY

    async def record(self, count: int = 1, **details: object) -> list[str]:
        """Record events, each in a transaction of its own, and return their ids."""
        ids: list[str] = []
        for number in range(count):
            async with self.plane.database.transaction() as tx:
                await audit.record(tx, SYSTEM, "thing.happened", "site", number=number, **details)
                ids += [entry.event_id for entry in tx.session.info[audit.ENTRIES]]
        return ids

    async def seal(self) -> Checkpoint | None:
        return await self.sealer.step(last=True)

    async def entries(self) -> list[tuple[int, bytes, str | None]]:
        async with self.plane.database.transaction() as tx:
            return list(await audit.list_entries(tx, Page(100_000, None)))


@pytest.fixture
def log(plane: ControlPlane) -> Log:
    made = Log(plane, Sealer(plane.database, SITE, lambda: None, plane.clock))
    made.sealer.key = lambda: made.key
    return made
