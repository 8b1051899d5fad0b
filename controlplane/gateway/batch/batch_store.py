"""Batches by project on the gateway's disk, beside the files. All of it blocks: call it in a thread.

`ID.state` says how far a batch is. While it is not over, `ID.input` is its own name for the input's content and
`ID.log` grows by its results; `ID.cancel` is there once somebody wants it ended.
"""

import os
from pathlib import Path

import msgspec
import structlog

from controlplane.gateway.batch.file_store import FileStore
from controlplane.gateway.batch.records import BATCH_ID, BatchRecord
from controlplane.gateway.batch.sealed import Damaged, destroy
from controlplane.kit.durable_files import sync_folder

log = structlog.get_logger()


class BatchStore:
    def __init__(self, files: FileStore) -> None:
        self._files = files

    def path(self, record: BatchRecord, suffix: str) -> Path:
        return self._files.folder(record.project) / f"{record.id}.{suffix}"

    def create(self, record: BatchRecord) -> None:
        """Make a batch that will be done; its input stays, whatever becomes of the file. Raises OSError."""
        own = self.path(record, "input")
        os.link(self._files.data_path(record.project, record.input_file_id), own)
        try:
            self.save(record)
        except OSError:
            destroy(own)
            raise

    def save(self, record: BatchRecord) -> None:
        self._files.sealing.save(self.path(record, "state"), record.id, record)

    def find(self, project: str, batch_id: str) -> BatchRecord | None:
        return self.load(self._files.folder(project) / f"{batch_id}.state")

    def names(self, project: str) -> list[str]:
        """Return the names of a project's batches; they sort by time."""
        return [path.stem for path in self._files.folder(project).glob("batch_*.state")]

    def unfinished(self, project: str) -> int:
        return sum(1 for _ in self._files.folder(project).glob("batch_*.input"))

    def kept(self, project: str) -> int:
        return sum(1 for _ in self._files.folder(project).glob("batch_*.state"))

    def list_unfinished(self) -> list[Path]:
        """Return the states of all batches that are not over, of every project."""
        inputs = (path for folder in self._files.folders() for path in folder.glob("batch_*.input"))
        return [path.with_suffix(".state") for path in inputs if BATCH_ID.fullmatch(path.stem)]

    def load(self, state: Path) -> BatchRecord | None:
        """Return a batch, None where there is none or it cannot be read."""
        try:
            raw = self._files.sealing.load(state, state.stem)
            return None if raw is None else msgspec.json.decode(raw, type=BatchRecord)
        except (Damaged, ValueError) as error:
            log.error("batch.unreadable", file=str(state), error=str(error))  # noqa: TRY400 - the cause is in the line
            return None

    def ask_to_cancel(self, record: BatchRecord) -> None:
        """Leave word for the worker that runs it. Raises OSError."""
        path = self.path(record, "cancel")
        path.touch(mode=0o600)
        sync_folder(path.parent)

    def is_cancelled(self, record: BatchRecord) -> bool:
        return self.path(record, "cancel").exists()

    def end(self, record: BatchRecord) -> None:
        """Keep how it ended, then let go of what only its course needed. Raises OSError."""
        self.save(record)
        self.clear(self.path(record, "state"))

    def clear(self, state: Path) -> None:
        for suffix in (".log", ".cancel", ".input"):  # the input last: it is what says that something is left to do
            destroy(state.with_suffix(suffix))

    def sweep(self, oldest_s: int) -> None:
        """Forget batches that ended before, and as old ones that cannot be read."""
        for folder in self._files.folders():
            for state in folder.glob("batch_*.state"):
                if state.stat().st_mtime >= oldest_s:
                    continue
                if not state.with_suffix(".input").exists() or self.load(state) is None:
                    self.clear(state)
                    destroy(state)
            for word in folder.glob("batch_*.cancel"):  # left for a batch that ended meanwhile
                if not word.with_suffix(".input").exists():
                    word.unlink(missing_ok=True)
