"""Seals what is committed into the tree, and signs the tree's state."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit import rules, service, store
from controlplane.domains.audit.tables import AuditCheckpoint
from controlplane.domains.audit.types import SYSTEM
from controlplane.kit.clock import Clock
from controlplane.kit.merkle import Span, leaf_hash
from controlplane.kit.note import Checkpoint, sign_checkpoint, verifier_key
from controlplane.kit.tx import Database, Tx

log = structlog.get_logger()

MOST_EVENTS = 1000  # between two checkpoints
MOST_SECONDS = 10.0
BATCH = 2000

Keys = Callable[[], Ed25519PrivateKey | None]


@dataclass
class Sealer:
    """One sealer works at a time: it holds a lock of the database for the length of a step.

    A lower `seq` may commit after a higher one, so a step seals what has no leaf yet, whatever its number. `_settled`
    is the transaction below which all is sealed; it keeps the look short and starts at zero with every process, so a
    restored database is looked through once.
    """

    database: Database
    origin: str
    key: Keys
    clock: Clock
    _settled: int = 0

    async def step(self, *, last: bool = False) -> Checkpoint | None:
        """Seal what is new; sign when it is time, or when this is the last step. Return what was signed."""
        async with self.database.transaction() as tx:
            await store.lock_sealing(tx)
            size = await self._seal(tx)
            newest = await store.find_checkpoint(tx)
            if size == (newest.size if newest else 0) or not (last or self._is_due(size, newest, tx.now)):
                return None
            key = self.key()
            if key is None:
                log.error("audit.no_checkpoint", why="the signing key is missing or unreadable", size=size)
                return None
            return await self._sign(tx, size, newest, key)

    async def _seal(self, tx: Tx) -> int:
        size = await store.read_size(tx)
        while True:
            horizon = await store.read_horizon(tx)
            found = await store.list_unsealed(tx, from_xact=self._settled, limit=BATCH)
            if found:
                rows = [(seq, event_id, leaf_hash(body.encode())) for seq, event_id, body in found]
                await store.add_leaves(tx, size, rows)
                size += len(rows)
            if len(found) < BATCH:
                self._settled = horizon
                return size

    def _is_due(self, size: int, newest: AuditCheckpoint | None, now: datetime) -> bool:
        if newest is None or size - newest.size >= MOST_EVENTS:
            return True
        return abs(now - newest.made_at) >= timedelta(seconds=MOST_SECONDS)  # abs: a clock set back delays nothing

    async def _sign(
        self, tx: Tx, size: int, newest: AuditCheckpoint | None, key: Ed25519PrivateKey
    ) -> Checkpoint | None:
        signer = str(verifier_key(self.origin, key))
        if newest is not None and newest.signer != signer and not await store.tells_of_key(tx, signer):
            # the event is sealed by the next step, and the first checkpoint of the new key covers it
            await service.record(tx, SYSTEM, "audit.key_changed", self.origin, old=newest.signer, new=signer)
            return None
        root = (await store.hash_spans(tx, [Span(0, size)]))[0]
        made = Checkpoint(self.origin, size, root)
        note = str(sign_checkpoint(made, key))
        store.add_checkpoint(tx, AuditCheckpoint(size=size, root=root, note=note, signer=signer, made_at=tx.now))
        return made


@dataclass
class ClockWatch:
    """Notices that this machine's clock was set, which is an event."""

    database: Database
    clock: Clock
    _wall: datetime | None = None
    _passed_s: float = 0.0

    async def step(self) -> None:
        wall, passed_s = self.clock.now(), self.clock.monotonic()
        before, self._wall = self._wall, wall
        passed, self._passed_s = timedelta(seconds=passed_s - self._passed_s), passed_s
        if before is None or not rules.is_step(wall - before, passed):
            return
        off_ms = round((wall - before - passed) / timedelta(milliseconds=1))
        log.warning("clock.anomaly", off_ms=off_ms)
        async with self.database.transaction() as tx:
            await service.record(tx, SYSTEM, "clock.anomaly", "clock", off_ms=off_ms, before=before, after=wall)
