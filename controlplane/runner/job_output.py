"""From the pipes of a command to the control plane: one task writes down, one ships, and nobody waits for either."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx
import structlog

from controlplane.contracts.jobs import ShippedOutput
from controlplane.runner.job_link import JobLink
from controlplane.runner.job_spool import Buffer, Spool
from controlplane.runner.surroundings import RunOver

WRITE_EVERY_S = 0.3
SHIP_EVERY_S = 1.0
SHIP_PAUSE_S = 15.0  # the longest, while nobody takes anything
SHIP_LAST_S = 20.0  # after the end, while the GPUs are still held

log = structlog.get_logger()


class Output:
    """`put` takes what the command writes; the rest goes on in the background until `finish`."""

    def __init__(self, buffer: Buffer, spool: Spool, link: JobLink) -> None:
        self._buffer, self._spool, self._link = buffer, spool, link
        self._is_refused = False
        self._tasks = [asyncio.create_task(self._keep_writing()), asyncio.create_task(self._keep_shipping())]

    def put(self, stream: str, data: bytes) -> None:
        self._buffer.put(stream, data)

    async def finish(self, words: str) -> None:
        """Add the last line and ship what is left, for a bounded time; the rest stays for a later supervisor."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._buffer.finish()
        self._buffer.say(words)
        await asyncio.to_thread(self._spool.write, self._buffer.take())
        with suppress(TimeoutError):
            async with asyncio.timeout(SHIP_LAST_S):
                await self._ship_all()
        self._spool.close(keep=not self._is_refused and bool(self._spool.first()[1]))

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            if not self._buffer.is_empty and self._spool.has_room:
                # in a thread: a disk that hangs must not keep us from emptying the pipes
                lost = await asyncio.shield(asyncio.to_thread(self._spool.write, self._buffer.take()))
                self._buffer.cut(lost)

    async def _keep_shipping(self) -> None:
        pause_s = SHIP_EVERY_S
        while not self._is_refused:
            await asyncio.sleep(pause_s)
            pause_s = SHIP_EVERY_S if await self._ship_some(is_last=False) else min(pause_s * 2, SHIP_PAUSE_S)

    async def _ship_some(self, *, is_last: bool) -> bool:
        """Ship the next parts; say whether somebody answered, or there was nothing to ship."""
        try:
            return await ship_next(self._spool, self._link, is_last=is_last) is not None
        except RunOver as over:
            log.warning("output.refused", detail=over.detail)
            self._is_refused = True
            return False

    async def _ship_all(self) -> None:
        while not self._is_refused and self._spool.first()[1]:
            if not await self._ship_some(is_last=True):
                await asyncio.sleep(SHIP_EVERY_S)


async def ship_next(spool: Spool, link: JobLink, *, is_last: bool) -> ShippedOutput | None:
    """Ship the next parts of a spool and forget those that were taken. Raises RunOver when nobody ever takes any."""
    first, parts = await asyncio.to_thread(spool.first)  # no disk may keep us from emptying the pipes
    if not parts:
        return ShippedOutput(next_sequence=first, is_full=False)
    shipped = await link.ship(first, parts, is_last=is_last)
    if shipped is not None:
        taken = shipped.next_sequence if not shipped.is_full else first + len(parts)
        await asyncio.to_thread(spool.drop_before, taken)
        if shipped.next_sequence < first:  # it knows less than it did: a restored database
            raise RunOver(0, f"parts before {first} are gone, and the control plane asks for {shipped.next_sequence}")
    return shipped


async def ship_leftovers(folder: Path, http: httpx.AsyncClient, renew_s: float) -> None:
    """Ship what supervisors of this project left here when nobody answered them; raises nothing."""
    for found in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (spool := Spool.adopt(found)) is not None:
            keep = await _ship_leftover(spool, http, renew_s)
            spool.close(keep=keep)


async def _ship_leftover(spool: Spool, http: httpx.AsyncClient, renew_s: float) -> bool:
    """Ship one spool to its end; say whether something is left that may still be taken."""
    match spool.identity():
        case {"run_id": str(run_id), "restarts": int(restarts), "token": str(token)}:
            link = JobLink(http, run_id, restarts, token, renew_s=renew_s)
        case _:
            return False
    try:
        while spool.first()[1]:
            if await ship_next(spool, link, is_last=True) is None:
                return True
    except (RunOver, OSError) as error:
        log.warning("output.leftover_lost", folder=spool.folder.name, error=str(error))
    return False
