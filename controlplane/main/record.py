"""How a process with a database keeps its events on this machine's disk too, and will not start behind what it saw."""

import os
import pwd
from asyncio import Task, create_task, gather
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from controlplane.domains.audit.loops import ClockWatch, DiskWatch, SecondSink, check_start
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.key_file import KeyFile
from controlplane.kit.loop import run_every
from controlplane.kit.segments import Ballast, SegmentWriter
from controlplane.kit.tx import Database
from controlplane.main.settings import AuditSettings

log = structlog.get_logger()

CLOCK_S = 1.0
DISK_S = 10.0


@dataclass
class Recorder:
    """The second sink of one process, and the watches over its clock and its disk."""

    sink: SecondSink
    watches: list[Task[None]] = field(default_factory=list)

    async def close(self) -> None:
        for watch in self.watches:
            watch.cancel()
        await gather(*self.watches, return_exceptions=True)
        await self.sink.segments.close()


async def start_recorder(settings: AuditSettings, process: str, *databases: Database, watch: bool = True) -> Recorder:
    """Hold every event of `databases` on disk before it commits; raises BehindItsWitnesses, Refused or Unavailable."""
    clock = SystemClock()
    segments, ballast = _folder(settings), Ballast(settings.folder / "ballast", settings.ballast_bytes)
    await check_start(databases[0], segments)
    name = f"{process}-{clock.now():%Y%m%dT%H%M%S%f}"
    sink = SecondSink(SegmentWriter(segments, name), ballast, KeyFile(settings.key).is_there)
    for database in databases:
        sink.attach(database)
    made = Recorder(sink)
    if watch:
        steps = (("clock", CLOCK_S, ClockWatch(databases[0], clock).step),
                 ("audit_disk", DISK_S, DiskWatch(databases[0], settings.folder, ballast).step))  # fmt: skip
        made.watches = [create_task(run_every(*step)) for step in steps]
    return made


def _folder(settings: AuditSettings) -> Path:
    segments = settings.folder / "segments"
    _refuse_another_user(segments if segments.exists() else settings.folder)
    try:
        segments.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Unavailable(
            f"the audit folder {settings.folder} cannot be used: {error.strerror}",
            remedy="mount its disk, and let the user of this process write there",
        ) from None
    with suppress(OSError):  # a full disk says so when the first event is written
        Ballast(settings.folder / "ballast", settings.ballast_bytes).reserve()
    return segments


def _refuse_another_user(folder: Path) -> None:
    """A file that root leaves in there is one that the service cannot read at its next start."""
    if not folder.exists() or (owner := folder.stat().st_uid) == os.geteuid():
        return
    raise Refused(
        f"the audit folder {folder} belongs to another user than the one of this process",
        remedy=f"run it as the owner of the folder: runuser -u {_user_name(owner)} -- ...",
        code="not_owner",
    )


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
