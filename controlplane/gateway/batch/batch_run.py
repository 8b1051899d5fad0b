"""One batch from its first look to its last: lines are checked, sent and kept, and none with a result is sent again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec
import structlog

from controlplane.gateway.batch.archive import Archive
from controlplane.gateway.batch.brake import Brake
from controlplane.gateway.batch.line_request import LineDoor
from controlplane.gateway.batch.line_work import LineWork
from controlplane.gateway.batch.lines import Line, LineCheck, LineTooLong, failed_line, numbered, read_line, split_lines
from controlplane.gateway.batch.outcome_files import OutcomeFiles
from controlplane.gateway.batch.records import BatchRecord, Counts, Fault, line_id, new_file_id
from controlplane.gateway.batch.result_log import Entry, LogFile, ResultLog
from controlplane.gateway.batch.sealed import Damaged
from controlplane.gateway.batch.seats import Seats
from controlplane.gateway.hub import Hub

log = structlog.get_logger()

_DIED = Fault("gateway_died", "the gateway died more than once while this line was under way")
_BROKE = Fault("gateway_failed", "the gateway failed over this line; operators: look at its log")
_DAMAGED = Fault("result_damaged", "the result of this line was damaged on the gateway's disk")
_UNREADABLE = Fault("input_unreadable", "the input file cannot be read")
_EXPIRED = Fault("batch_expired", "the batch's time ran out before this line was done")


class BatchRun:
    """`record` is the newest state, on the disk up to its counts. `look` is called from outside, twice a second."""

    def __init__(self, hub: Hub, archive: Archive, door: LineDoor, record: BatchRecord) -> None:
        self.record = record
        self.brake = Brake()
        self.seats = Seats(hub, archive.limits, self.brake)
        self._hub = hub
        self._archive = archive
        self._door = door
        self._limits = archive.limits
        self._file = LogFile(archive.batches.path(record, "log"), archive.files.sealing, record.id)
        self._log = ResultLog(self._file, archive.run)
        self._done: set[int] = set()
        self._starts: Counter[int] = Counter()
        self._answered = self._failed = 0
        self._saved_s = float("-inf")
        self._saving = asyncio.Lock()

    async def work(self) -> None:
        """Do it to its end, or until the brake lets go. Raises OSError; then it can be taken up again."""
        try:
            if self.record.status == "validating":
                await self._check()
            if self.record.status == "in_progress":
                await self._do_lines()
            if self.record.status in {"finalizing", "cancelling"}:
                await self._finalize()
        finally:
            await self._log.settle()
            await self._archive.run(self._file.close)

    async def look(self, *, cancelled: bool, disk_is_full: bool) -> None:
        """Take note of what goes on around it, and keep how far it is."""
        self.brake.disk_is_full = disk_is_full
        if cancelled:
            self.brake.end("cancelled", None)
        elif self._archive.now_s() >= self.record.expires_at:
            self.brake.end("expired", _EXPIRED)
        self.seats.look()
        await self._keep_counts()

    async def _keep_counts(self) -> None:
        counts = Counts(self.record.counts.total, self._answered, self._failed)
        changed = (counts, self.brake.waiting) != (self.record.counts, self.record.waiting)
        now_s = self._hub.time()
        if not changed or now_s - self._saved_s < self._limits.counts_s:
            return
        self._saved_s = now_s
        async with self._saving:
            if self.record.status == "in_progress":  # still: its course may have saved it while we waited
                await self._put(msgspec.structs.replace(self.record, counts=counts, waiting=self.brake.waiting))

    # --- first, whether it can be done

    async def _check(self) -> None:
        check = LineCheck(self.record.endpoint, self._limits)
        lines = self._lines()
        try:
            while not self.brake.is_on and (group := await self._archive.run(next, lines, None)) is not None:
                if not await self._archive.run(check.look, group):
                    break
        except LineTooLong as error:
            check.faults.append(Fault("line_too_long", error.detail))
        except Damaged:
            check.faults.append(_UNREADABLE)
        if self.brake.is_on and self.brake.ending is None:
            return
        if not check.total and not check.faults:
            check.faults.append(Fault("empty_file", "the file holds no line"))
        await self._checked(check)

    async def _checked(self, check: LineCheck) -> None:
        now_s = self._archive.now_s()
        counts = Counts(check.total)
        if check.faults and self.brake.ending is None:
            failed = msgspec.structs.replace(
                self.record, status="failed", failed_at=now_s, faults=tuple(check.faults), counts=counts
            )
            await self._end(failed)
            return
        await self._save(
            msgspec.structs.replace(
                self.record, status="in_progress", in_progress_at=now_s, model=check.model, counts=counts
            )
        )

    # --- then, its lines

    async def _do_lines(self) -> None:
        await self._archive.run(self._read_log)
        work = LineWork(self._hub, self._archive, self._door, self.record, self.brake)
        async with asyncio.TaskGroup() as tasks:
            async for number, raw in self._left_to_do():
                if not await self.seats.take(self.record.model, len(raw)):
                    break
                tasks.create_task(self._do(work, number, raw))
        if self.brake.ending is None and len(self._done) < self.record.counts.total:
            return
        await self._begin_to_end()

    async def _left_to_do(self) -> AsyncIterator[tuple[int, bytes]]:
        lines = self._lines()
        try:
            while not self.brake.is_on and (group := await self._archive.run(next, lines, None)) is not None:
                for number, raw in group:
                    if number not in self._done:
                        yield number, raw
        except Damaged as error:
            log.error("batch.input_damaged", batch=self.record.id, error=str(error))  # noqa: TRY400 - the cause is in the line
            self.brake.end("failed", _UNREADABLE)

    def _read_log(self) -> None:
        for entry in self._file.open():
            if entry.kind == "begun":
                self._starts[entry.line] += 1
            elif entry.kind == "let_go":
                self._starts[entry.line] -= 1
            elif entry.line not in self._done:
                self._count(entry)

    async def _do(self, work: LineWork, number: int, raw: bytes) -> None:
        try:
            line = read_line(raw)
            if self._starts[number] >= self._limits.starts:
                await self._keep(
                    Entry("failed", number, failed_line(line_id(self.record, number), line.custom_id, _DIED))
                )
                return
            await self._keep(Entry("begun", number))
            await self._keep(await self._send(work, number, line))
        finally:
            self.seats.give_back(len(raw))

    async def _send(self, work: LineWork, number: int, line: Line) -> Entry:
        """Return what is to be kept of a line that was begun; its trouble is not the other lines'."""
        try:
            return await work.do(number, line) or Entry("let_go", number)
        except asyncio.CancelledError:
            await self._keep(Entry("let_go", number))
            raise
        except Exception as error:  # noqa: BLE001 - of a line nothing may stop the others, which cost as much again
            log.error("batch.line_failed", batch=self.record.id, line=number, error=type(error).__name__)  # noqa: TRY400 - a text may hold content
            return Entry("failed", number, failed_line(line_id(self.record, number), line.custom_id, _BROKE))

    async def _keep(self, entry: Entry) -> None:
        """Keep an entry, however long the disk takes; a result counts once it is durable."""
        failures = 0
        while True:
            try:
                await self._log.add(entry)
            except OSError as error:
                failures += 1
                log.error("batch.not_written", batch=self.record.id, error=f"{type(error).__name__}: {error}")  # noqa: TRY400 - the cause is in the line
                self.brake.waiting = Fault("disk", "this gateway's disk takes nothing")
                if self.brake.is_on:
                    return
                await self.brake.pause(min(self._limits.shortest_wait_s * 2**failures, self._limits.longest_wait_s))
            else:
                break
        if entry.is_result:
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        self._done.add(entry.line)
        self._answered += entry.kind == "answered"
        self._failed += entry.kind == "failed"

    # --- at last, its results

    async def _begin_to_end(self) -> None:
        """Give names to the results before they are written, so that a kill leaves no second pair."""
        now_s = self._archive.now_s()
        ending = self.brake.ending or "completed"
        cancelled = ending == "cancelled"
        await self._save(
            msgspec.structs.replace(
                self.record,
                status="cancelling" if cancelled else "finalizing",
                ending=ending,
                ending_fault=self.brake.fault,
                waiting=None,
                cancelling_at=now_s if cancelled else None,
                finalizing_at=None if cancelled else now_s,
                counts=Counts(self.record.counts.total, self._answered, self._failed),
                output_file_id=new_file_id(now_s),
                error_file_id=new_file_id(now_s),
            )
        )

    async def _finalize(self) -> None:
        record, store = self.record, self._archive.batches
        files = OutcomeFiles(self._archive.files, record, self._limits, self._archive.now_s())
        unfinished = _DAMAGED if record.ending == "completed" else record.ending_fault
        steps = files.write(store.path(record, "log"), store.path(record, "input"), unfinished)
        while await self._archive.run(next, steps, True) is None:  # noqa: FBT003 - what next returns at its end
            pass
        fault = record.ending_fault
        now_s = self._archive.now_s()
        ended = msgspec.structs.replace(
            record,
            status=record.ending or "completed",
            counts=files.counts,
            faults=(fault,) if fault is not None and record.ending == "failed" else (),
            output_file_id=record.output_file_id if files.has_output else None,
            error_file_id=record.error_file_id if files.has_errors else None,
        )
        await self._end(msgspec.structs.replace(ended, **{f"{ended.status}_at": now_s}))

    async def _end(self, record: BatchRecord) -> None:
        async with self._saving:
            await self._archive.run(self._archive.batches.end, record)
            self.record = record
        counts = record.counts
        log.info("batch.ended", batch=record.id, project=record.project, status=record.status, lines=counts.total,
                 answered=counts.completed, failed=counts.failed)  # fmt: skip

    async def _save(self, record: BatchRecord) -> None:
        async with self._saving:  # two writers of one file would each lose the other's
            await self._put(record)

    async def _put(self, record: BatchRecord) -> None:
        await self._archive.run(self._archive.batches.save, record)
        self.record = record

    def _lines(self) -> Iterator[list[tuple[int, bytes]]]:
        record = self.record
        parts = self._archive.files.read_at(self._archive.batches.path(record, "input"), record.input_file_id)
        return numbered(split_lines(parts, self._limits.line_bytes))
