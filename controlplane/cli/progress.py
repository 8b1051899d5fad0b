"""Progress of long work on standard error: one line written over on a terminal, else a line every few seconds."""

import sys
import threading
import time
from typing import TextIO

from controlplane.bundle.reader import Advance, Begin

ON_TERMINAL_S = 0.2
ELSEWHERE_S = 5.0
MEGABYTE = 1e6


class ProgressLine:
    """Counts bytes and says how far, how fast, and how long it will still take. Threads may advance it."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._terminal = self._out.isatty()
        self._lock = threading.Lock()
        self._what, self._total, self._done = "", 0, 0
        self._began = self._said = 0.0

    def start(self, what: str, total_bytes: int) -> None:
        self._what, self._total, self._done = what, total_bytes, 0
        self._began = self._said = time.monotonic()

    def begin(self, what: str) -> Begin:
        """Return what starts this line when the number of bytes is known."""

        def start(total_bytes: int) -> Advance:
            self.start(what, total_bytes)
            return self.advance

        return start

    def advance(self, size_bytes: int) -> None:
        with self._lock:
            self._done += size_bytes
            now = time.monotonic()
            if now - self._said >= (ON_TERMINAL_S if self._terminal else ELSEWHERE_S):
                self._said = now
                self._write(self._line(now))

    def end(self) -> None:
        if self._total:
            self._write(self._line(time.monotonic()), last=True)
        self._total = 0

    def _line(self, now: float) -> str:
        rate = self._done / max(now - self._began, 1e-3)
        left_s = (self._total - self._done) / rate if rate > 0 else 0
        share = f"{self._done / MEGABYTE:.1f} of {self._total / MEGABYTE:.1f} MB"
        return f"{self._what}: {share}, {rate / MEGABYTE:.1f} MB/s, {_clock(left_s)} left"

    def _write(self, line: str, *, last: bool = False) -> None:
        if self._terminal:
            self._out.write(f"\r\033[K{line}" + ("\n" if last else ""))
        else:
            self._out.write(line + "\n")
        self._out.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
