"""Progress of long work: each stage says that it began, what it does, and how long it took."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stages:
    """Collects seconds by stage name, in order."""

    def __init__(self) -> None:
        """Start the clock of the whole."""
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block, and say so while it runs."""
        began = time.monotonic()
        self._say(f"-- {name} …")
        yield
        self.seconds[name] = time.monotonic() - began
        self._say(f"-- {name}: {self.seconds[name]:.1f} s")

    @property
    def total(self) -> float:
        """Seconds since the first stage could begin."""
        return time.monotonic() - self._began

    def _say(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
