"""Holds events on a second disk before they commit, seals what is committed, signs the tree's state."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit import rules, service, store
from controlplane.domains.audit.tables import AuditCheckpoint
from controlplane.domains.audit.types import SYSTEM, Role, Unrecorded
from controlplane.kit.canonical import canonical_json
from controlplane.kit.clock import Clock
from controlplane.kit.durable_files import replace_file
from controlplane.kit.merkle import TILE_HEIGHT, Span, leaf_hash, tile_number, tile_path
from controlplane.kit.note import Checkpoint, sign_checkpoint, verifier_key
from controlplane.kit.segments import Ballast, SegmentWriter, delete_older, read_tails
from controlplane.kit.tx import Database, Tx

log = structlog.get_logger()

MOST_EVENTS = 1000  # between two checkpoints
MOST_SECONDS = 10.0
BATCH = 2000

MARKS = 1000  # how many of the newest commits are looked for at a start
FULL_FROM = 0.8  # of the disk

Keys = Callable[[], Ed25519PrivateKey | None]


@dataclass
class SecondSink:
    """Holds every event on this machine's disk before the database commits it: no sink, no answer.

    What is in a segment and not in the database was never answered: segments hold more than happened, never less.
    """

    segments: SegmentWriter
    ballast: Ballast
    key_is_there: Callable[[], bool]

    def attach(self, database: Database) -> None:
        database.before_commit(self.hold)
        database.after_commit(self.mark)

    async def hold(self, tx: Tx) -> None:
        """Raise Unrecorded, which undoes the transaction, when its events cannot be held."""
        entries: Sequence[service.Entry] = tx.session.info.get(service.ENTRIES, ())
        if not entries:
            return
        if not self.key_is_there():
            log.error("audit.refused", why="the log's signing key is missing or unreadable", events=len(entries))
            raise Unrecorded
        lines = [entry.body.encode() for entry in entries]
        try:
            await self._append(lines, urgent=any(entry.role == Role.BREAK_GLASS for entry in entries))
        except (OSError, TimeoutError) as error:
            log.error("audit.refused", why=f"{type(error).__name__}: {error}", events=len(entries))  # noqa: TRY400 - the cause is in the line
            raise Unrecorded from error

    async def _append(self, lines: Sequence[bytes], *, urgent: bool) -> None:
        try:
            await self.segments.append(lines)
        except OSError:
            if not (urgent and self.ballast.release()):
                raise
            log.warning("audit.ballast_released")
            await self.segments.append(lines)

    def mark(self, tx: Tx) -> None:
        """Note which events were committed, for the next start to look for."""
        entries: Sequence[service.Entry] = tx.session.info.get(service.ENTRIES, ())
        if entries:
            self.segments.note(canonical_json({"committed": [entry.event_id for entry in entries]}))

    def mark_checkpoint(self, made: Checkpoint) -> None:
        self.segments.note(canonical_json({"checkpoint": made.size, "root": made.root.hex()}))


async def check_start(database: Database, segments: Path) -> None:
    """Raise BehindItsWitnesses when the database lacks what a witness or this machine's segments have seen of it."""
    committed, size = _read_marks(segments)
    async with database.transaction() as tx:
        await service.check_head(tx, committed=committed, size=size)


def _read_marks(segments: Path) -> tuple[list[str], int]:
    """Return the newest ids that were committed and the largest size that was signed, as the segments tell."""
    committed: list[str] = []
    size = 0
    for line in read_tails(segments):
        if line.startswith(b'{"committed":'):
            committed += json.loads(line)["committed"]
        elif line.startswith(b'{"checkpoint":'):
            size = max(size, json.loads(line)["checkpoint"])
    return committed[-MARKS:], size


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
    tell: Callable[[Checkpoint], None] | None = None
    tiles: "TileFolder | None" = None
    _settled: int = 0
    _horizon: int = 0  # what `_settled` is when this step's transaction is committed

    async def step(self, *, last: bool = False) -> Checkpoint | None:
        """Seal what is new; sign when it is time, or when this is the last step. Return what was signed."""
        made = await self._step(last=last)
        if made is not None:
            if self.tell is not None:
                self.tell(made)
            if self.tiles is not None:
                await self.tiles.write(self.database)
        return made

    async def _step(self, *, last: bool) -> Checkpoint | None:
        async with self.database.transaction() as tx:
            made = await self._seal_and_sign(tx, last=last)
        self._settled = self._horizon  # not before the leaves are committed
        return made

    async def _seal_and_sign(self, tx: Tx, *, last: bool) -> Checkpoint | None:
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
                self._horizon = horizon
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
class TileFolder:
    """The log as files, as C2SP tlog-tiles lays them out: a copy on this machine's disk that tools of others read."""

    folder: Path

    async def write(self, database: Database) -> None:
        """Bring the files to the newest checkpoint; what a crash left half is written again."""
        async with database.transaction() as tx:
            newest = await store.find_checkpoint(tx)
            if newest is None:
                return
            before = self._size()
            for level, number, width in _tiles_between(before, newest.size):
                hashes = await store.list_hashes(tx, level, number << TILE_HEIGHT, (number << TILE_HEIGHT) + width)
                self._put(tile_path(level, number, width), b"".join(hashes))
                if level == 0:
                    await self._write_entries(tx, number, width)
                if width == 1 << TILE_HEIGHT:
                    self._drop_partial(level, number)
            note = await service.sign_note(tx, newest)
        self._put(f"checkpoints/{newest.size}", note.encode())
        self._put("checkpoint", note.encode())

    async def _write_entries(self, tx: Tx, number: int, width: int) -> None:
        start = number << TILE_HEIGHT
        bodies = [body for _, _, body in await store.list_entries(tx, start, start + width)]
        if all(body is not None for body in bodies):
            entries = [body.encode() for body in bodies if body is not None]
            bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
            self._put(f"tile/entries/{tile_number(number, width)}", bundle)

    def _drop_partial(self, level: int, number: int) -> None:
        """Remove the narrower copies of a tile that is full, and of its entries."""
        full = tile_path(level, number, 1 << TILE_HEIGHT)
        shutil.rmtree(self.folder / f"{full}.p", ignore_errors=True)
        if level == 0:
            shutil.rmtree(self.folder / f"tile/entries/{tile_number(number, 1 << TILE_HEIGHT)}.p", ignore_errors=True)

    def drop_entries(self, before: int) -> None:
        """Remove the bundles of leaves below `before`, and their narrower copies; hashes stay."""
        for number in range(before >> TILE_HEIGHT):
            (self.folder / f"tile/entries/{tile_number(number, 1 << TILE_HEIGHT)}").unlink(missing_ok=True)
        for number in range((before + (1 << TILE_HEIGHT) - 1) >> TILE_HEIGHT):
            narrow = self.folder / f"tile/entries/{tile_number(number, 1 << TILE_HEIGHT)}.p"
            shutil.rmtree(narrow, ignore_errors=True)

    def _size(self) -> int:
        try:
            return int((self.folder / "checkpoint").read_text().split("\n")[1])
        except (FileNotFoundError, IndexError, ValueError):
            return 0

    def _put(self, name: str, content: bytes) -> None:
        replace_file(self.folder / name, content)


@dataclass
class Sweeper:
    """After a purge: drops what the files of this machine still hold of the bodies that went."""

    database: Database
    segments: Path
    tiles: TileFolder

    async def step(self) -> None:
        async with self.database.transaction() as tx:
            before, oldest = await store.read_purged(tx)
        if before and oldest is not None:
            self.tiles.drop_entries(before)
            delete_older(self.segments, oldest.timestamp())


def _tiles_between(before: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield level, number and width of each tile of a tree of `size` that one of `before` did not have so wide."""
    level = 0
    while size:
        if before != size:
            for number in range(before >> TILE_HEIGHT, (size + (1 << TILE_HEIGHT) - 1) >> TILE_HEIGHT):
                yield level, number, min(1 << TILE_HEIGHT, size - (number << TILE_HEIGHT))
        level, before, size = level + 1, before >> TILE_HEIGHT, size >> TILE_HEIGHT


@dataclass
class DiskWatch:
    """Tells, once for each time, that the disk of the second sink fills up; keeps the ballast in its place."""

    database: Database
    folder: Path
    ballast: Ballast
    usage: Callable[[Path], tuple[int, int, int]] = field(default=shutil.disk_usage)
    _told: bool = False

    async def step(self) -> None:
        total, used, _ = self.usage(self.folder)
        filling = used >= FULL_FROM * total
        if not filling:
            self.ballast.reserve()
        if filling and not self._told:
            percent = 100 * used // total
            log.warning("audit.disk_filling", folder=str(self.folder), percent=percent)
            async with self.database.transaction() as tx:
                await service.record(tx, SYSTEM, "audit.disk_filling", "audit", percent=percent)
        self._told = filling


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
