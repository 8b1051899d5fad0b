"""Which worker of a node does its batches, and when: one of them holds a lock, the next takes it when that one dies."""

import asyncio
import fcntl
import os
import shutil
from collections import Counter
from pathlib import Path

import structlog

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.batch_run import BatchRun
from controlplane.gateway.batch.line_request import LineDoor
from controlplane.gateway.batch.records import BatchRecord, Fault
from controlplane.gateway.errors import NoSnapshot
from controlplane.gateway.hub import Hub

log = structlog.get_logger()

EVERY_S = 0.5
SWEEP_S = 60.0
_ORPHAN_S = 60
_AGAIN_S = 5.0
ROOM_S = 5.0  # between two looks at what projects keep
_OVERFULL = Fault(
    "project_full",
    "the project or this gateway keeps as much as it may; DELETE /v1/files/{id}, or ask operators for room",
)
_FULL = Fault("disk_full", "this gateway's disk has no room for more results")


class Leader:
    """`step` is called about twice a second in every worker; it does something in one of them."""

    def __init__(self, hub: Hub, archive: Archive) -> None:
        self._hub = hub
        self._archive = archive
        self._door = LineDoor(hub, archive)
        self._lock: int | None = None
        self._runs: dict[Path, tuple[BatchRun, asyncio.Task[None]]] = {}
        self._not_before: dict[Path, float] = {}
        self._swept_s = self._measured_s = float("-inf")
        self._overfull: frozenset[str] = frozenset()

    async def step(self) -> None:
        """Begin, look after and end runs. Raises OSError."""
        if self._hub.draining:
            await self.close()  # now: connections may take an hour to leave
            return
        if not await self._archive.run(self._leads):
            return
        self._reap()
        if self._hub.time() - self._swept_s >= SWEEP_S:  # first: on a full disk it is what makes room
            self._swept_s = self._hub.time()
            await self._archive.run(self._sweep, self._withdrawn())
        found = await self._archive.run(self._archive.batches.list_unfinished)
        for state in await self._archive.run(self._next, found):
            self._begin(*state)
        await self._look_after()

    async def close(self) -> None:
        """Let go of what is under way, for another worker or the next start."""
        for run, _ in self._runs.values():
            run.brake.let_go()
            run.seats.look()
        if self._runs:
            await asyncio.wait([task for _, task in self._runs.values()])
        self._reap()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _leads(self) -> bool:
        if self._lock is not None:
            return True
        root = self._archive.files.root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(root / "leader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _reap(self) -> None:
        for state, (_, task) in [(state, run) for state, run in self._runs.items() if run[1].done()]:
            del self._runs[state]
            error = task.exception()
            if error is not None:
                self._not_before[state] = self._hub.time() + _AGAIN_S
                log.error("batch.stopped", batch=state.stem, error=f"{type(error).__name__}: {error}")
            else:
                self._not_before.pop(state, None)

    def _next(self, found: list[Path]) -> list[tuple[Path, BatchRecord]]:
        """Return what to begin now: projects in turn, the oldest first. It blocks."""
        now_s = self._hub.time()
        waiting = [s for s in found if s not in self._runs and self._not_before.get(s, 0.0) <= now_s]
        records = [(state, record) for state in waiting if (record := self._load(state)) is not None]
        running = Counter(run.record.project for run, _ in self._runs.values())
        records.sort(key=lambda each: each[1].created_at)
        chosen: list[tuple[Path, BatchRecord]] = []
        while records and len(self._runs) + len(chosen) < self._archive.limits.runs:
            state, record = min(records, key=lambda each: running[each[1].project])
            running[record.project] += 1
            records.remove((state, record))
            chosen.append((state, record))
        return chosen

    def _load(self, state: Path) -> BatchRecord | None:
        """Return a batch that is to be done; what a kill left of one that is over, or never was, is cleared away."""
        batches = self._archive.batches
        record = batches.load(state)
        if record is not None and not record.is_over:
            return record
        if record is not None or _is_old(state.with_suffix(".input"), self._archive.now_s()):
            self._not_before[state] = self._hub.time() + SWEEP_S
            if record is not None or not state.exists():
                batches.clear(state)
        return None

    def _begin(self, state: Path, record: BatchRecord) -> None:
        run = BatchRun(self._hub, self._archive, self._door, record)
        self._runs[state] = (run, asyncio.get_running_loop().create_task(run.work()))
        log.info("batch.taken_up", batch=record.id, project=record.project, status=record.status)

    async def _look_after(self) -> None:
        batches = self._archive.batches
        runs = [run for run, _ in self._runs.values()]
        sharers = Counter(run.record.model for run in runs)
        disk_is_full = await self._archive.run(self._disk_is_full)
        await self._measure(runs)
        for run in runs:
            run.seats.sharers = sharers[run.record.model]
            is_overfull = run.record.project in self._overfull
            full = disk_is_full or is_overfull
            run.brake.waiting = _FULL if disk_is_full else _OVERFULL if is_overfull else run.brake.waiting
            try:
                await run.look(cancelled=await self._archive.run(batches.is_cancelled, run.record), disk_is_full=full)
            except OSError as error:  # the other runs are looked at none the less
                log.error("batch.not_kept", batch=run.record.id, error=f"{type(error).__name__}: {error}")  # noqa: TRY400 - the cause is in the line

    async def _measure(self, runs: list[BatchRun]) -> None:
        """Look now and then at which projects keep as much as they may; their batches send nothing more then."""
        if not runs or self._hub.time() - self._measured_s < ROOM_S:
            return
        self._measured_s = self._hub.time()
        projects = frozenset(run.record.project for run in runs)
        self._overfull = await self._archive.run(self._archive.files.overfull, projects)

    def _disk_is_full(self) -> bool:
        return shutil.disk_usage(self._archive.files.root).free < self._archive.limits.free_bytes

    def _withdrawn(self) -> frozenset[str]:
        """Return the projects that are known and may keep nothing; of one that is not known nothing is certain."""
        try:
            directory = self._hub.directory(self._hub.clock.now())
        except NoSnapshot:
            return frozenset()
        return frozenset(share.name for share in directory.shares.values() if not share.keeps_content)

    def _sweep(self, withdrawn: frozenset[str]) -> None:
        now_s = self._archive.now_s()
        self._archive.files.sweep(now_s, withdrawn)
        self._archive.batches.sweep(now_s - self._archive.limits.most_kept_s)


def _is_old(path: Path, now_s: int) -> bool:
    try:
        return now_s - path.stat().st_ctime > _ORPHAN_S  # since its last link: its content is as old as the upload
    except FileNotFoundError:
        return False
