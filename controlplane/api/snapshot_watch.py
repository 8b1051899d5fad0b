"""A gateway that asks for a newer snapshot is answered when there is one: it waits here, and in no transaction."""

import asyncio
from typing import Annotated

from fastapi import Query, Request

from controlplane.domains.serving.service import snapshots
from controlplane.kit.tx import Database

WATCH_S = 0.1
LONGEST_S = 3.0  # less than a gateway waits for any answer


class SnapshotWatch:
    """One look at the database for all that wait; none while nobody does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest = 0
        self._waiting = 0
        self._looked = asyncio.Condition()

    async def step(self) -> None:
        """Look which version is the newest. Raises Unavailable."""
        if not self._waiting:
            return
        async with self._database.transaction() as tx:
            self._newest = await snapshots.newest_version(tx)
        async with self._looked:
            self._looked.notify_all()

    async def wait(self, after: int, wait_s: float) -> None:
        """Return once the newest version is another than `after`, or when the time is over."""
        self._waiting += 1
        try:
            async with asyncio.timeout(min(wait_s, LONGEST_S)), self._looked:
                await self._looked.wait()  # what was known before may be old
                await self._looked.wait_for(lambda: self._newest != after)
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1


async def wait_for_newer(
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0.0,
) -> int:
    """Wait before anything else is done for the request; return the version that the gateway has."""
    watch: SnapshotWatch | None = request.app.state.snapshot_watch
    if watch is not None and wait_s:
        await watch.wait(after, wait_s)
    return after
