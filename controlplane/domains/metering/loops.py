"""Keep what was used of the GPUs: ask the engine, write down what is new."""

from datetime import datetime, timedelta
from typing import Protocol

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.metering import service, store
from controlplane.engines.scheduler import UsedGpus
from controlplane.kit.tx import Database

OVERLAP = timedelta(minutes=10)  # a start may be told later than it ended
DEEP_EVERY = timedelta(hours=1)
DEEP = timedelta(days=3)  # and much later, when the accounting was away


class Accounts(Protocol):
    """Who says what was used; a scheduler does, and the process engine."""

    async def list_used(self, since: datetime) -> tuple[UsedGpus, ...]: ...


class UsageLoop:
    """One step a call; the caller repeats it."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts
        self._deep_at: datetime | None = None

    async def step(self) -> None:
        """Take over what was used since the last step. Raises Unavailable; the next step takes it over then."""
        began_at = self._database.now()
        goes_deep = self._deep_at is None or began_at - self._deep_at >= DEEP_EVERY
        used = await self._accounts.list_used(await self._since(began_at, goes_deep=goes_deep))
        async with self._database.transaction() as tx:
            await service.record_used(tx, SYSTEM, used=used, known_until=began_at)
        if goes_deep:
            self._deep_at = began_at

    async def _since(self, now: datetime, *, goes_deep: bool) -> datetime:
        """Return from when on to ask: a little before the last time, or far back to where the oldest open one began."""
        async with self._database.transaction() as tx:
            known_until, oldest = await store.find_known_until(tx), await store.find_oldest_open(tx)
        if known_until is not None and not goes_deep:
            return known_until - OVERLAP
        return min([now - DEEP, *(at - OVERLAP for at in (known_until, oldest) if at is not None)])
