"""The journal of what was taken in and refused: one line each, chained by hash. Standard library and kit alone."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any  # JSON has no narrower type

from controlplane.bundle.trust import timestamp
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import Refused

FIRST = "0" * 64
FIELDS = {"seq", "prev", "at", "result", "digest", "serial", "floor", "root", "source", "who", "signers", "reason"}


@dataclass(frozen=True)
class Event:
    """What happened. `result` is `accepted`, or why it was refused; `reason` is the person's, for an override."""

    result: str
    source: str
    who: str
    digest: str = ""
    serial: int = 0
    floor: int = 0
    root: int = 0
    signers: tuple[str, ...] = ()
    reason: str = ""


class Journal:
    """A file of JSON lines; each carries the hash of the line before. Whoever appends holds the lock of its folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """Return every entry; raises Refused that names the first line that does not follow from the one before."""
        lines = self._lines()
        entries = list(self._checked(lines))
        self._require_head(lines)
        return entries

    def floor(self) -> int:
        """Return the greatest floor that was ever accepted."""
        return max((entry["floor"] for entry in self.entries() if entry["result"] == "accepted"), default=0)

    def append(self, event: Event, at: datetime) -> None:
        """Add an entry; it is on the disk when this returns, or the journal is as it was."""
        entries, lines = self.entries(), self._lines()
        prev = self._head(lines)
        line = canonical_json({"seq": len(entries) + 1, "prev": prev, "at": timestamp(at), **_plain(event)}) + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _write_whole(handle, _whole_bytes(handle), line)
        finally:
            os.close(handle)
        _replace(self._note, f"{len(entries) + 1} {sha256_hex(line[:-1])}\n")

    @property
    def head(self) -> str:
        """The hash of the last line, to be written down elsewhere."""
        return self._head(self._lines())

    @staticmethod
    def _head(lines: list[bytes]) -> str:
        return sha256_hex(lines[-1]) if lines else FIRST

    @property
    def _note(self) -> Path:
        return self._path.with_name(f"{self._path.name}.head")

    def _lines(self) -> list[bytes]:
        # What stands behind the last line break was never acknowledged: the machine stopped while it was written.
        return self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else []

    def _require_head(self, lines: list[bytes]) -> None:
        """The note of count and hash shows a last line that was changed or cut off, which no later line could."""
        if not self._note.exists() and len(lines) <= 1:
            return
        words = self._note.read_text().split() if self._note.exists() else []
        number = int(words[0]) if len(words) == 2 and words[0].isdigit() else 0
        if not 1 <= number <= len(lines) <= number + 1:
            raise self._altered(min(number, len(lines)) + 1, "is missing")
        if sha256_hex(lines[number - 1]) != words[1]:
            raise self._altered(number, "was changed")

    def _altered(self, number: int, what: str) -> Refused:
        return Refused(
            f"{self._path}: line {number} {what}",
            remedy="compare it with a copy from before, and say who could write to it",
            code="log_altered",
        )

    def _checked(self, lines: list[bytes]) -> Iterator[dict[str, Any]]:
        prev = FIRST
        for number, line in enumerate(lines, start=1):
            entry = _entry(line)
            if entry.get("seq") != number or entry.get("prev") != prev or set(entry) != FIELDS:
                what = "does not follow from the line before: one of the two was changed, or one between is missing"
                raise self._altered(number, what)
            prev = sha256_hex(line)
            yield entry


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        return entry if isinstance(entry, dict) and canonical_json(entry) == line else {}
    except ValueError:
        return {}


def _plain(event: Event) -> dict[str, Any]:
    return {**vars(event), "signers": list(event.signers)}


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.rename(path)


def _whole_bytes(handle: int) -> int:
    """Return where the last whole line ends."""
    size = os.fstat(handle).st_size
    return os.pread(handle, size, 0).rfind(b"\n") + 1


def _write_whole(handle: int, at: int, line: bytes) -> None:
    os.ftruncate(handle, at)
    try:
        if os.pwrite(handle, line, at) != len(line):
            raise OSError(28, "no space left for a line of the journal")
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, at)
        raise
