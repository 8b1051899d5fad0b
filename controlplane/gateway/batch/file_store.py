"""Files by project on the gateway's disk, sealed. All of it blocks: call it in a thread.

A file is there once its head is: `ID.part` grows while it is uploaded, `ID.data` is whole, `ID.head` says what it is.
"""

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import structlog

from controlplane.gateway.batch.limits import BatchLimits
from controlplane.gateway.batch.records import FileRecord
from controlplane.gateway.batch.refusals import NoRoom
from controlplane.gateway.batch.sealed import (
    Damaged,
    SealedWriter,
    Sealing,
    destroy,
    drop_orphan,
    locked,
    read_sealed,
    replace_sealed,
)
from controlplane.kit.durable_files import sync_folder

log = structlog.get_logger()

_BLOCK = 512  # bytes that st_blocks counts
_ORPHAN_S = 60  # younger, it may be that a worker has made it and not locked it yet


class FileStore:
    def __init__(self, root: Path, sealing: Sealing, limits: BatchLimits) -> None:
        self.root = root
        self.sealing = sealing
        self._limits = limits

    def folder(self, project: str) -> Path:
        """Return a project's own folder; a name of a project is no name of a file."""
        return self.root / sha256(project.encode()).hexdigest()[:32]

    def begin_upload(self, project: str, file_id: str, wanted_bytes: int) -> SealedWriter:
        """Open a file of at most so many bytes, and take the room for it before anybody else does.

        Its size on the disk is the room; it is given back with the file. Raises NoRoom, OSError.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self.root):
            self.check_room(project, wanted_bytes, files=1)
            return self.begin(project, file_id, reserved_bytes=wanted_bytes)

    def begin(self, project: str, file_id: str, *, reserved_bytes: int = 0) -> SealedWriter:
        """Open a file; what was written under this name and never committed is gone. Raises OSError."""
        folder = self.folder(project)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{file_id}.part"
        destroy(path)
        return SealedWriter(path, self.sealing, file_id, reserved_bytes=reserved_bytes)

    def commit(self, writer: SealedWriter, record: FileRecord) -> None:
        """Make a written file and what is said of it durable. Raises OSError; then nothing of it is left."""
        folder = self.folder(record.project)
        data = folder / f"{record.id}.data"
        try:
            writer.finish()
            replace_sealed(writer.path, data)  # a kill may have left one that the same batch had written
            self.sealing.save(folder / f"{record.id}.head", record.id, record)
            writer.close()
        except OSError:
            writer.discard()
            destroy(data)
            raise

    def find(self, project: str, file_id: str, now_s: int) -> FileRecord | None:
        record = self._load(self.folder(project) / f"{file_id}.head")
        return record if record is not None and record.expires_at > now_s else None

    def names(self, project: str) -> list[str]:
        """Return the names of a project's files, read or not; they sort by time."""
        return [path.stem for path in self.folder(project).glob("file-*.head")]

    def read(self, project: str, file_id: str) -> Iterator[bytes]:
        """Yield the content in parts. Raises Damaged, FileNotFoundError."""
        return self.read_at(self.data_path(project, file_id), file_id)

    def read_at(self, path: Path, file_id: str) -> Iterator[bytes]:
        return read_sealed(path, self.sealing, file_id)

    def data_path(self, project: str, file_id: str) -> Path:
        return self.folder(project) / f"{file_id}.data"

    def delete(self, project: str, file_id: str) -> None:
        """Destroy a file: first what says that it is there, then its content. Raises OSError."""
        folder = self.folder(project)
        destroy(folder / f"{file_id}.head")
        destroy(folder / f"{file_id}.data")
        if folder.exists():
            sync_folder(folder)

    def sweep(self, now_s: int, withdrawn: frozenset[str]) -> None:
        """Delete what has expired and what no upload owns; `withdrawn` projects may keep nothing any more."""
        for folder in self.folders():
            for head in folder.glob("file-*.head"):
                try:
                    self._sweep_file(head, now_s, withdrawn)
                except OSError as error:  # the others make room perhaps
                    log.error("file.not_swept", file=str(head), error=str(error))  # noqa: TRY400 - the cause is in the line
            for left in (*folder.glob("file-*.part"), *folder.glob("file-*.data"), *folder.glob(".*.new")):
                if left.suffix != ".data" or not left.with_suffix(".head").exists():
                    drop_orphan(left, now_s - _ORPHAN_S)

    def folders(self) -> list[Path]:
        return [path for path in self.root.iterdir() if path.is_dir()] if self.root.exists() else []

    def _sweep_file(self, head: Path, now_s: int, withdrawn: frozenset[str]) -> None:
        record = self._load(head)
        if record is None:
            if head.stat().st_mtime < now_s - self._limits.most_kept_s:  # whoever can read it, it has expired
                destroy(head)
                destroy(head.with_suffix(".data"))
                log.warning("file.unreadable_dropped", file=str(head))
            return
        ends_at = now_s + self._limits.withdrawn_s
        if record.expires_at <= now_s:
            self.delete(record.project, record.id)
            log.info("file.expired", file=record.id, project=record.project)
        elif record.project in withdrawn and record.expires_at > ends_at:
            self.sealing.save(head, record.id, msgspec.structs.replace(record, expires_at=ends_at))

    def _load(self, head: Path) -> FileRecord | None:
        try:
            raw = self.sealing.load(head, head.stem)
            return None if raw is None else msgspec.json.decode(raw, type=FileRecord)
        except (Damaged, ValueError) as error:
            log.error("file.unreadable", file=str(head), error=str(error))  # noqa: TRY400 - the cause is in the line
            return None

    def check_room(self, project: str, wanted_bytes: int, *, files: int) -> None:
        """Raise NoRoom where this would be too much for its project, for the node, or for what else is on the disk."""
        limits = self._limits
        own = _sizes(self.folder(project))
        if len(own) + files > limits.project_files or sum(own) + wanted_bytes > limits.project_bytes:
            raise NoRoom("the project keeps as much as it may", remedy="delete files with DELETE /v1/files/{id}")
        total = sum(sum(_sizes(folder)) for folder in self.folders())
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self.root).free - sum(map(_promised, self.root.glob("*/file-*.part")))
        if total + wanted_bytes > limits.all_bytes or free - wanted_bytes < limits.free_bytes:
            raise NoRoom("this gateway has no room for more files", remedy="try later; operators: look at its disk")

    def overfull(self, projects: frozenset[str]) -> frozenset[str]:
        """Return which of them keep as much as they may, results of batches included; all, where the node does."""
        if sum(sum(_sizes(folder)) for folder in self.folders()) >= self._limits.all_bytes:
            return projects
        return frozenset(p for p in projects if sum(_sizes(self.folder(p))) >= self._limits.project_bytes)


def _sizes(folder: Path) -> list[float]:
    """Return what each file with content takes; one that a batch shares counts once over both names."""
    found = []
    for pattern in ("file-*.part", "file-*.data", "batch_*.input", "batch_*.log"):
        for path in folder.glob(pattern):
            facts = _facts(path)
            if facts is not None:
                found.append(facts.st_size / max(1, facts.st_nlink))
    return found


def _promised(part: Path) -> int:
    """Return what an upload may still write: the disk does not know of it yet."""
    facts = _facts(part)
    return max(0, facts.st_size - facts.st_blocks * _BLOCK) if facts is not None else 0


def _facts(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
