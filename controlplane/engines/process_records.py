"""What the process engine remembers of each run: one JSON file, replaced whole."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from controlplane.kit.errors import Unavailable


@dataclass
class Record:
    """Times are seconds since boot. `kill_at_s` is set once a stop was asked for, `ended_at_s` once the run is gone.

    What has a default may be missing in a record of an older Redoubt. `folder` "" means that its log is among these.
    """

    name: str
    boot: str
    pid: int
    start_ticks: int
    gpus: list[str]
    started_at_s: float
    time_limit_s: float
    kill_at_s: float | None = None
    ended_at_s: float | None = None
    reason: str = ""
    status: int = 0
    gpu_indexes: tuple[int, ...] = ()
    started_at: str = ""
    ended_at: str = ""
    warning_signal: str = ""
    warning_at_s: float | None = None  # None once it was given, or when there is none
    folder: str = ""
    account: str = ""
    partition: str = ""
    gpu_type: str = ""


class Records:
    """The folder of one engine. Every method raises Unavailable when the folder cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Yield whether this process has the folder to itself; a killed holder lets go."""
        with self._told():
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def find(self, name: str) -> Record | None:
        path = self._path(name)
        with self._told():
            return _parse(path) if path.exists() else None

    def list(self) -> list[Record]:
        with self._told():
            return [_parse(path) for path in sorted(self.folder.glob("*.json"))]

    def write(self, record: Record) -> None:
        """Return once the record would survive a power cut."""
        path = self._path(record.name)
        with self._told():
            new = path.with_suffix(".new")
            with new.open("w") as file:
                json.dump(asdict(record), file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)

    def remove(self, name: str) -> None:
        with self._told():
            self._path(name).unlink(missing_ok=True)
            self.log_path(name).unlink(missing_ok=True)  # one in a folder of its owner's is its owner's

    def open_log(self, name: str, folder: str) -> int:
        with self._told():
            self.log_path(name, folder).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.log_path(name, folder), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def log_path(self, name: str, folder: str = "") -> Path:
        """Return where the output of this run is."""
        return (Path(folder) if folder else self.folder) / f"{quote(name, safe='')}.log"

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}.json"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise Unavailable(
                f"the state of the process engine cannot be used: {error}",
                remedy=f"make {self.folder} a folder that this user can write",
            ) from None


def _parse(path: Path) -> Record:
    try:
        kept = json.loads(path.read_text())
        return Record(**kept | {"gpu_indexes": tuple(kept.get("gpu_indexes", ()))})
    except (TypeError, ValueError) as error:
        raise Unavailable(
            f"{path} is not a record of a run: {error}", remedy="look what runs, end it by hand, then remove the file"
        ) from None
