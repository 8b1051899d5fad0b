"""All spools of one gateway node: a folder for each worker that ever wrote, until its lines are shipped and old."""

import os
import shutil
from datetime import datetime, timedelta
from itertools import pairwise, zip_longest
from pathlib import Path

import structlog

from controlplane.contracts.spool import MOST_BYTES, MOST_LINES
from controlplane.gateway.records import AnyRecord, Closed, Intent, Outcome
from controlplane.gateway.spool_file import (
    Found,
    Segment,
    SpoolFile,
    read_spool,
    segments,
    take_lock,
    whole_lines,
)
from controlplane.kit.durable_files import sync_folder

log = structlog.get_logger()

KEPT_FOR = timedelta(days=7)
KEPT_BYTES = 256 * 1024 * 1024


_SHIPPED = "shipped"
_CLOSED = "closed"


class SpoolReader:
    """Reads the lines of one spool from a number on. `is_placed`: the control plane has said which number that is."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        shipped = _read_number(folder / _SHIPPED)
        self.next_seq = shipped or 0
        self.is_placed = shipped is not None
        self._end_seq = _read_number(folder / _CLOSED)
        self._lock = lock
        self._at: tuple[Path, int, int] | None = None  # a segment, and where in it the line of which number begins

    @property
    def boot(self) -> str:
        return self.folder.name

    def move(self, next_seq: int) -> None:
        """Go on from there; the note on the disk saves a restart from counting what was shipped as backlog."""
        self.next_seq, self.is_placed = next_seq, True
        fresh = self.folder / f"{_SHIPPED}.new"
        fresh.write_text(str(next_seq))
        fresh.replace(self.folder / _SHIPPED)

    def read(self, *, below: int | None = None) -> list[bytes]:
        """Return the next lines for one shipment, at most up to number `below`."""
        lines: list[bytes] = []
        if self._is_shipped_whole():
            return lines
        size, seq = 0, self.next_seq
        for segment, offset, skipped in self._parts(seq):
            at = offset
            for number, line in enumerate(whole_lines(segment.path, offset), start=skipped):
                if number >= seq:
                    size += len(line) + 1
                    if len(lines) == MOST_LINES or size > MOST_BYTES or (below is not None and seq >= below):
                        return lines
                    lines.append(line)
                    seq += 1
                at += len(line) + 1
                self._at = (segment.path, at, number + 1)
        return lines

    def _is_shipped_whole(self) -> bool:
        """Say whether nothing of a closed spool is left to ship; after a restart only the notes on the disk tell."""
        return self._end_seq is not None and self.next_seq >= self._end_seq

    def _parts(self, seq: int) -> list[tuple[Segment, int, int]]:
        """Return the segments to read: each with the offset to begin at, and the number of the line there."""
        found = segments(self.folder)
        later = [segment for segment in found if segment.first > seq]
        holding = found[: len(found) - len(later)][-1:]
        parts = [(segment, 0, segment.first) for segment in (*holding, *later)]
        if self._at is not None and holding and self._at[0] == holding[0].path and self._at[2] <= seq:
            parts[0] = (holding[0], self._at[1], self._at[2])
        return parts

    def backlog_bytes(self) -> int:
        """Return the size of what is not shipped: whole segments, and of the one being shipped what is left of it."""
        if self._is_shipped_whole():
            return 0
        found = segments(self.folder)
        shipped = self.next_seq
        left = sum(
            segment.path.stat().st_size
            for segment, following in zip_longest(found, found[1:])
            if following is None or following.first > shipped
        )
        return left - (self._at[1] if self._at is not None and self._at[2] <= shipped else 0)

    def drop_old(self, now: datetime, *, kept_bytes: int) -> int:
        """Delete segments that are shipped whole and old, or too much; return what may still be kept elsewhere.

        What is kept can be shipped again to a control plane that came back from an older backup. The newest one stays.
        """
        found = segments(self.folder)
        for segment, following in pairwise(found):
            if following.first > self.next_seq:
                break
            facts = segment.path.stat()
            is_old = now - datetime.fromtimestamp(facts.st_mtime, now.tzinfo) > KEPT_FOR
            if not is_old and kept_bytes >= facts.st_size:
                kept_bytes -= facts.st_size
                continue
            segment.path.unlink()
        return kept_bytes

    def is_over(self, now: datetime) -> bool:
        """Say whether a closed spool is shipped to its end and old."""
        found = segments(self.folder)
        if len(found) > 1 or self.backlog_bytes():
            return False
        return not found or now - datetime.fromtimestamp(found[0].path.stat().st_mtime, now.tzinfo) > KEPT_FOR

    def remove(self) -> None:
        """Delete the whole spool."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def make_spool(root: Path, boot: str) -> tuple[Path, int]:
    """Make the folder of a new spool; return it and the lock that we hold. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = root / boot
    folder.mkdir(mode=0o700)
    lock = take_lock(folder)
    if lock is None:
        raise BlockingIOError(f"{folder} is held by another process")
    sync_folder(root)
    return folder, lock


def adopt_dead(root: Path, mine: set[str], now_us: int) -> list[SpoolReader]:
    """Take over every spool whose writer is gone, and give each open intent its outcome: nobody knows."""
    adopted = []
    for folder in sorted(root.iterdir()):
        if folder.name in mine or not folder.is_dir() or folder.suffix:
            continue
        lock = take_lock(folder)
        if lock is None:
            continue
        try:
            close_dead(folder, now_us)
        except (ValueError, OSError) as error:
            os.close(lock)
            log.error("spool.unreadable", folder=str(folder), error=f"{type(error).__name__}: {error}")  # noqa: TRY400 - the cause is in the line
            continue
        adopted.append(SpoolReader(folder, lock))
    return adopted


def close_dead(folder: Path, now_us: int) -> None:
    """Write the end of a spool whose writer died; a mark saves the next start from reading it all again."""
    if _read_number(folder / _CLOSED) is not None:
        return
    found = read_spool(folder)
    if not found.is_closed:
        _write_end(folder, found, now_us)
    (folder / _CLOSED).write_text(str(found.chain.next_seq))


def _write_end(folder: Path, found: Found, now_us: int) -> None:
    lines: list[AnyRecord] = [_unknown(intent, now_us) for intent in found.unanswered.values()]
    file = SpoolFile(folder, found.chain)
    try:
        file.append([*lines, Closed(at_us=now_us)])
    finally:
        file.close()
    found.chain = file.chain
    log.warning("spool.recovered", folder=str(folder), unknown=len(lines))


def _unknown(intent: Intent, now_us: int) -> Outcome:
    """Nobody knows what became of it: it counts as having used all that it held."""
    return Outcome(
        agent=intent.agent,
        at_us=now_us,
        bytes_out=0,
        code="gateway_died",
        duration_us=max(0, now_us - intent.at_us),
        endpoint=intent.endpoint,
        key=intent.key,
        priority=intent.priority,
        project=intent.project,
        replica="",
        request=intent.request,
        result="unknown",
        revision=intent.revision,
        run=intent.run,
        spent=intent.held,
        status=0,
        step=intent.step,
        surface=intent.surface,
        tokens_in=None,
        tokens_out=None,
        workflow=intent.workflow,
        zone=intent.zone,
    )
