"""The spool of one worker: what it is about to do is on the disk before it is done.

The event loop gathers lines; one thread writes them in groups, with one fdatasync for each group. A group leaves as
soon as the thread is free, so a request alone waits for one fdatasync and a hundred at once for one as well. Above
`_CROWD_PER_S` a group waits for the next millisecond, to give the thread fewer turns. What nobody waits for (outcomes)
leaves with the next group, or after `GROUP_S` at the latest.
"""

import asyncio
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import structlog

from controlplane.gateway.records import AnyRecord, Closed, Denial, Intent, Opened, Outcome
from controlplane.gateway.spool_file import SpoolFile

log = structlog.get_logger()

GROUP_S = 0.008
_CROWD_PER_S = 1500  # requests a second
_TICK_S = 0.001  # the loop's timers know no less
_ALARM_AT = 0.8
_MOST_KEPT = 50_000  # outcomes that wait for a disk that fails; beyond, an intent ends as `unknown`
_LOG_EVERY_S = 10.0


class Waiter(Protocol):
    """Who may go on once its intent is durable."""

    def recorded(self) -> None: ...

    def not_recorded(self) -> None: ...


class Journal(Protocol):
    """Where a gateway writes down what it does."""

    def intend(self, intent: Intent, waiter: Waiter) -> None:
        """Make an intent durable, then tell the waiter; tell it too when that cannot be done."""
        ...

    def note(self, record: Outcome | Denial) -> None:
        """Write down what nobody waits for."""
        ...


class _Group:
    __slots__ = ("records", "waiters")

    def __init__(self) -> None:
        self.records: list[AnyRecord] = []
        self.waiters: list[Waiter] = []


class Spool:
    """`backlog_bytes` is what the control plane has not taken yet; the shipper corrects it."""

    def __init__(self, file: SpoolFile, opened: Opened, *, most_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._most_bytes = most_bytes
        self.backlog_bytes = 0
        self._group = _Group()
        self._group.records.append(opened)  # kept in front until it is written, whatever the disk says at first
        self._busy = False
        self._soon = False
        self._crowded = False
        self._left_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._said_at: dict[str, float] = {}
        self._work: SimpleQueue[_Group | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="spool", daemon=True)
        self._thread.start()
        self._flush()

    @property
    def folder(self) -> Path:
        return self._file.folder

    @property
    def durable_seq(self) -> int:
        """Lines below this number are on the disk."""
        return self._file.chain.next_seq

    def intend(self, intent: Intent, waiter: Waiter) -> None:
        if self.backlog_bytes >= self._most_bytes:
            self._say("spool.full", backlog_bytes=self.backlog_bytes, most_bytes=self._most_bytes)
            waiter.not_recorded()
            return
        self._group.records.append(intent)
        self._group.waiters.append(waiter)
        if not (self._busy or self._soon):
            self._flush_soon()

    def note(self, record: Outcome | Denial) -> None:
        self._group.records.append(record)
        if not (self._busy or self._soon) and self._timer is None:
            self._timer = self._loop.call_later(GROUP_S, self._flush)

    def correct_backlog(self, backlog_bytes: int) -> None:
        """Take the shipper's word for what is still to be shipped, and say so while it is much."""
        self.backlog_bytes = backlog_bytes
        if backlog_bytes >= self._most_bytes * _ALARM_AT:
            self._say("spool.filling", backlog_bytes=backlog_bytes, most_bytes=self._most_bytes)

    async def close(self, closed: Closed) -> None:
        """Write what is left and the last line. What cannot be written is made good at the next start."""
        while self._busy:
            self._idle.clear()
            await self._idle.wait()
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        group, self._group = self._group, _Group()
        try:
            await asyncio.to_thread(self._file.append, [*group.records, closed])
        except OSError as error:
            self._say("spool.not_closed", error=f"{type(error).__name__}: {error}")
        self._file.close()

    def _flush_soon(self) -> None:
        """Let the group leave with all that this turn of the loop, or this millisecond, still brings."""
        self._soon = True
        if self._crowded:
            self._loop.call_later(_TICK_S, self._flush)
        else:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._group.records:
            return
        group, self._group = self._group, _Group()
        now_s = self._loop.time()
        self._crowded = len(group.waiters) > 1 + _CROWD_PER_S * (now_s - self._left_at)
        self._left_at = now_s
        self._busy = True
        self._work.put(group)

    def _write_all(self) -> None:
        """Run in the thread."""
        while (group := self._work.get()) is not None:
            try:
                size = self._file.append(group.records)
            except OSError as error:
                self._loop.call_soon_threadsafe(self._failed, group, error)
            else:
                self._loop.call_soon_threadsafe(self._written, group, size)

    def _written(self, group: _Group, size: int) -> None:
        self.backlog_bytes += size
        self._free()
        for waiter in group.waiters:
            waiter.recorded()

    def _failed(self, group: _Group, error: OSError) -> None:
        """Refuse who waits; keep what has happened already and must still be told."""
        self._say("spool.not_written", error=f"{type(error).__name__}: {error}", refused=len(group.waiters))
        kept = [record for record in group.records if not isinstance(record, Intent)]
        self._group.records[:0] = kept[: max(0, _MOST_KEPT - len(self._group.records))]
        self._free()
        for waiter in group.waiters:
            waiter.not_recorded()

    def _free(self) -> None:
        self._busy = False
        self._idle.set()
        if self._group.waiters:
            if not self._soon:
                self._flush_soon()
        elif self._group.records and self._timer is None:
            self._timer = self._loop.call_later(GROUP_S, self._flush)

    def _say(self, event: str, **facts: object) -> None:
        """Log, but not for every request."""
        now = self._loop.time()
        if now - self._said_at.get(event, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._said_at[event] = now
            log.error(event, folder=str(self.folder), **facts)
