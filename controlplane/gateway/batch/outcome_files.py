"""From the log of a batch to the two files that its client reads: answers, and everything else. All of it blocks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from controlplane.gateway.batch.file_store import FileStore
from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.batch.lines import LineTooLong, failed_line, numbered, read_line, split_lines
from controlplane.gateway.batch.records import BatchRecord, Counts, Fault, FileRecord, line_id
from controlplane.gateway.batch.result_log import LogFile
from controlplane.gateway.batch.sealed import Damaged, SealedWriter

_LINES_AT_ONCE = 64


class OutcomeFiles:
    """Written anew from the beginning after a kill: their names are in the batch's state before they are begun."""

    def __init__(self, files: FileStore, record: BatchRecord, limits: BatchLimits, now_s: int) -> None:
        self._files = files
        self._record = record
        self._limits = limits
        self._now_s = now_s
        self._writers: dict[str, SealedWriter] = {}
        self._lines: Counter[str | None] = Counter()

    def write(self, log: Path, own_input: Path, unfinished: Fault | None) -> Iterator[None]:
        """Write both in small steps; lines without a result fail with `unfinished`, or are left out. Raises OSError."""
        done: set[int] = set()
        file = LogFile(log, self._files.sealing, self._record.id)
        try:
            for entry in file.open():
                if entry.is_result and entry.line not in done:
                    done.add(entry.line)
                    self._add(entry.result, answered=entry.kind == "answered")
                if len(done) % _LINES_AT_ONCE == 0:
                    yield
            if unfinished is not None and len(done) < self._record.counts.total:
                yield from self._fail_rest(own_input, done, unfinished)
            for file_id, writer in self._writers.items():
                self._files.commit(writer, self._file_record(file_id, writer.size))
                yield
        finally:
            file.close()
            for writer in self._writers.values():
                writer.discard()

    @property
    def has_output(self) -> bool:
        return self._record.output_file_id in self._writers

    @property
    def has_errors(self) -> bool:
        return self._record.error_file_id in self._writers

    @property
    def counts(self) -> Counts:
        """Lines in each, once all is written."""
        lines = self._lines
        return Counts(self._record.counts.total, lines[self._record.output_file_id], lines[self._record.error_file_id])

    def _fail_rest(self, own_input: Path, done: set[int], fault: Fault) -> Iterator[None]:
        parts = self._files.read_at(own_input, self._record.input_file_id)
        try:
            for group in numbered(split_lines(parts, self._limits.line_bytes)):
                for number, raw in group:
                    if number not in done:
                        self._add(failed_line(line_id(self._record, number), _name_in(raw), fault), answered=False)
                yield
        except (LineTooLong, Damaged):  # it ended before all of it was looked at
            return

    def _add(self, line: bytes, *, answered: bool) -> None:
        file_id = self._record.output_file_id if answered else self._record.error_file_id
        if file_id is None:
            raise ValueError("the batch has no names for its results yet")
        if file_id not in self._writers:
            self._writers[file_id] = self._files.begin(self._record.project, file_id)
        self._writers[file_id].write(line + b"\n")
        self._lines[file_id] += 1

    def _file_record(self, file_id: str, size: int) -> FileRecord:
        record = self._record
        kind = "output" if file_id == record.output_file_id else "error"
        return FileRecord(
            id=file_id,
            project=record.project,
            filename=f"{record.id}_{kind}.jsonl",
            bytes=size,
            purpose="batch_output",
            classification=record.creator.classification,
            created_at=self._now_s,
            expires_at=self._now_s + record.output_kept_s,
        )


def _name_in(raw: bytes) -> str:
    try:
        return read_line(raw).custom_id
    except ValueError:
        return ""
